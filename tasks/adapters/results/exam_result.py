"""What is told of an exam: plain values and arrays, under pseudonyms. The objects of ``objects`` are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.exam import Box, Laterality, ViewGeometry, ViewPosition
from tasks.adapters.pseudonyms import Pseudonyms

MANUFACTURER: Final = "mammography-gmic"
RESEARCH_USE: Final = "RESEARCH USE ONLY - not for diagnosis"
"""Stands wherever a person looks at a result."""
SHORT_DIGEST: Final = 12


class Patch(NamedTuple):
    """A region that the network looked at again.

    Attributes:
        attention: Its weight among the view's patches.
        box_px: In source pixels; may reach out of the image.
    """

    attention: float
    box_px: Box


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewResult:
    """One image and what the network said of it.

    Attributes:
        image_id: Pseudonym of its SOPInstanceUID: by it the source is found again.
        scores: By finding.
        saliency_CIJ: In [0, 1] over the network's window.
        geometry: Leads back to the source image.
        patches: The most attended first.
        grey_HW: The stored breast crop, uint8; what the picture shows.
    """

    image_id: str
    exam_id: str
    laterality: Laterality
    view_position: ViewPosition
    scores: Mapping[str, float]
    saliency_CIJ: NDArray[np.floating]
    geometry: ViewGeometry
    patches: tuple[Patch, ...]
    grey_HW: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Whose results these are, and the names that they get.

    Attributes:
        network: As people call it.
        weights_sha256: Of its weights.
        code_version: Of this program.
        made: Local time at which the exam was first queued: an object that is made again is the same to the byte.
        pseudonyms: Names of objects are keyed: outsiders cannot compute them from a source's UID.
        operating_points: A sentence for each threshold that is kept beside the weights.
    """

    network: str
    weights_sha256: str
    code_version: str
    made: datetime
    pseudonyms: Pseudonyms
    operating_points: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Code and weights, as AlgorithmVersion (0066,0031) takes them."""
        return f"{self.code_version} weights {self.weights_sha256[:SHORT_DIGEST]}"[:64]

    @property
    def parameters(self) -> tuple[str, ...]:
        """What a reader of a report should know of the algorithm."""
        return (f"weights sha256 {self.weights_sha256}", *self.operating_points, RESEARCH_USE)

    def uid(self, kind: str, *of: str) -> str:
        """The UID of an object, or of a part of one: the same for the same kind, weights and sources."""
        return self.pseudonyms.result_uid(kind, self.weights_sha256, *of)


def mean_score(views: list[ViewResult], finding: str) -> float:
    """A breast's score: the mean of its views."""
    return float(np.mean([view.scores[finding] for view in views]))
