"""A gate profile: what one data set is allowed, and how its files say whom they show.

A profile is named in the config and recorded in provenance; nothing is relaxed silently. The profiles of public data sets are
in ``sets``, one module each, and ``catalogue`` finds them by name. Which rules a data set breaks and why is in
``docs/reference/gate-rules.md``; what is not known of a set's headers first hand is marked there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from schemas.exam import Acquisition
from tasks.adapters.datasets.subject import Subject, subject_of_header
from tasks.adapters.dicom.header import DicomHeader

Identify = Callable[[DicomHeader, str], Subject]
"""From a header and the file's path below the source folder (POSIX) to whom the file shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one data set is allowed, and where its headers hide what the standard puts elsewhere.

    Attributes:
        title: For whom it is, as users read it.
        relaxed: Rules that neither refuse nor warn.
        mapped: Rules that ``identify`` satisfies; with ``relaxed`` they decide which profile is advised.
        smallest_side_px: Lower limit of rule X01 for the longer side.
        identify: Finds patient, exam, side and view of a file.
        not_a_view_pattern: Searched in SeriesDescription and PatientID; a match breaks K08.
        acquisition: How all its images came to be; None = as the header says.
        is_advised: It is named to somebody whose folder was refused; False where it is of no use without a table beside it.
        image_types: Values of ImageType beside those of the standard that its plain mammograms have, for rule K12.
    """

    name: str
    title: str
    relaxed: frozenset[str] = frozenset()
    mapped: frozenset[str] = frozenset()
    smallest_side_px: int = 800
    identify: Identify = subject_of_header
    not_a_view_pattern: re.Pattern[str] | None = None
    acquisition: Acquisition | None = None
    is_advised: bool = True
    image_types: frozenset[str] = frozenset()

    @property
    def accepts(self) -> frozenset[str]:
        """The rules that files of this set break under ``clinical-strict`` and not under this profile."""
        return self.relaxed | self.mapped


CLINICAL_STRICT: Final = Profile(name="clinical-strict", title="clinical FFDM exams as a PACS holds them")
