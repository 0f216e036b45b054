"""What was never meant for us is told from what is lost, also where a rule on the file itself comes first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BufferedReader
from typing import Final

from schemas.errors import GateRejection
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.dicom.dicom_file import read_class_uid
from tasks.adapters.gate.rules.kind import rule_against_class
from tasks.adapters.gate.rules.table import RULES

_SAYS_NOTHING_OF_ITS_KIND: Final = frozenset({"F03", "F04", "F13", "F14"})
"""Too small, too large, compressed as films are, damaged: so may be a report or a tomosynthesis that is as it should be."""


@contextmanager
def named_by_its_class(file: BufferedReader, profile: Profile) -> Iterator[None]:
    """Adds the rule on its kind to the refusal of a file whose header is out of reach, by the class it names itself.

    A report of 1 kB, a tomosynthesis of 700 MB or an ultrasound film breaks a rule on files before anybody sees that it was
    never meant for us; nobody has lost a mammogram.
    """
    refused: GateRejection | None = None
    try:
        yield
    except GateRejection as error:
        refused = error
    if refused is None:
        return
    if _SAYS_NOTHING_OF_ITS_KIND.issuperset(refused.reason_codes):
        with suppress(GateRejection):  # then nothing is known of its kind
            rule_id = rule_against_class(read_class_uid(file))
            if rule_id is not None and rule_id not in profile.relaxed:
                said = refused.refusal
                expected = "; ".join(filter(None, (said.expected, f"{rule_id} {RULES[rule_id].demand}")))
                refused = GateRejection.of(replace(said, rules=(*said.rules, rule_id), expected=expected))
    raise refused  # outside the except block: no chained exception carries a foreign message along
