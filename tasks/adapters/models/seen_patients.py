"""Whom weights were trained and tuned on: digests of patients' pseudonyms beside them, and who of others is among these.

A pseudonym is a keyed digest of a PatientID (``tasks.adapters.pseudonyms``): who has another key, or none, can neither make nor
undo it. The list holds a digest of each pseudonym with its key's name, so it names nobody, not even by pseudonym; who has the
same pseudonyms can ask of each whether it is on the list. A list is compared with stores of its own key alone
(docs/decisions/0023).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from schemas.errors import CheckpointError, StoreError
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import JudgedPatients
from schemas.reports.training import EnsembleMember, SeenPatients, TrainReport
from tasks.adapters.models.model_files import PATIENTS, SIDECAR, ensemble_sha256, read_sidecar
from tasks.adapters.provenance import file_sha256

_HEX_DIGITS = 24  # as many as a pseudonym has


def seen_patients(key_id: str, persons: Mapping[str, str], *, trained: Iterable[str], tuned: Iterable[str]) -> SeenPatients:
    """The list of a training.

    Args:
        key_id: Names the key of the pseudonyms.
        persons: Patient to person, where several patients may be one: who shares a PatientID with the listed is found by it.
        trained: Pseudonyms of the patients whose exams move the weights.
        tuned: Of those who choose among the weights.
    """
    digests = ({_digest(key_id, name) for patient in ids for name in _names(patient, persons)} for ids in (trained, tuned))
    trained_digests, tuned_digests = map(sorted, digests)
    return SeenPatients(pseudonym_key_id=key_id, trained=tuple(trained_digests), tuned=tuple(tuned_digests))


def joined(first: SeenPatients | None, second: SeenPatients | None) -> SeenPatients | None:
    """Everybody on either list, as pre-training and training make it; None = one of them is not known, or of another key."""
    if first is None or second is None or first.pseudonym_key_id != second.pseudonym_key_id:
        return None
    return SeenPatients(
        pseudonym_key_id=first.pseudonym_key_id,
        trained=tuple(sorted({*first.trained, *second.trained})),
        tuned=tuple(sorted({*first.tuned, *second.tuned})),
    )


def read_seen_patients(checkpoint: Path) -> SeenPatients | None:
    """The list beside a checkpoint's weights; None = weights of a former release, or imported ones: nobody knows.

    Raises:
        CheckpointError: The sidecar names a list, and it is gone or was altered; or there is no sidecar.
    """
    try:
        digest = read_sidecar(checkpoint)["sha256"].get(PATIENTS)
        if digest is None:
            return None
        content = (checkpoint / PATIENTS).read_bytes()
        if hashlib.sha256(content).hexdigest() == digest:
            return SeenPatients.model_validate_json(content)
        got = "another content than was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as damage:
        got = type(damage).__name__
    raise CheckpointError(
        f"The list of patients that {checkpoint} was trained on is gone or damaged",
        expected=f"{PATIENTS} as {SIDECAR} names it",
        got=got,
        remedy="restore it from a backup, or take a checkpoint that has its own",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBy:
    """Whom some weights have seen among the patients of one store, as far as the lists beside the weights say.

    Attributes:
        sha256: Of the weights.
        key_id: Names the key of the store's pseudonyms.
        persons: Patient to person, where several patients may be one.
        trained, tuned: Digests.
        not_known: Why some weights say nothing of these patients; empty = all of them do.
        former: Pseudonyms that a patient's images had before.
    """

    sha256: str
    key_id: str
    persons: Mapping[str, str]
    trained: frozenset[str]
    tuned: frozenset[str]
    not_known: str
    former: Mapping[str, frozenset[str]]

    @classmethod
    def of(
        cls,
        members: Sequence[EnsembleMember],
        key_id: str,
        persons: Mapping[str, str],
        former: Mapping[str, frozenset[str]] = MappingProxyType({}),
    ) -> SeenBy:
        """Reads the lists of one model or several.

        Raises:
            CheckpointError: A list is gone or was altered.
        """
        lists = [read_seen_patients(member.path) for member in members]
        ours = [one for one in lists if one is not None and one.pseudonym_key_id == key_id]
        silent, reasons = lists.count(None), []
        if silent:
            reasons.append(f"{silent} of {len(lists)} weights do not say whom they were trained on")
        if foreign := len(lists) - silent - len(ours):
            reasons.append(f"{foreign} of {len(lists)} weights were trained on pseudonyms of another key")
        return cls(
            sha256=ensemble_sha256(members),
            key_id=key_id,
            persons=persons,
            trained=frozenset(digest for one in ours for digest in one.trained),
            tuned=frozenset(digest for one in ours for digest in one.tuned),
            not_known=", ".join(reasons),
            former=former,
        )

    @classmethod
    def listed(cls, seen: SeenPatients, persons: Mapping[str, str]) -> SeenBy:
        """Of a list that was read, for a store of its key."""
        return cls(
            sha256="",
            key_id=seen.pseudonym_key_id,
            persons=persons,
            trained=frozenset(seen.trained),
            tuned=frozenset(seen.tuned),
            not_known="",
            former={},
        )

    def in_training(self, patients: Iterable[str]) -> frozenset[str]:
        """Those of the patients whom the weights were trained on, under their own pseudonym or another of the same person."""
        return self._among(self.trained, patients)

    def at_all(self, patients: Iterable[str]) -> frozenset[str]:
        """Those of the patients whom the weights were trained or tuned on."""
        return self._among(self.trained | self.tuned, patients)

    def are_tuned_on(self, patients: Iterable[str]) -> bool:
        """True if there are some and the weights are known to have been tuned on each: this is their own tuning split."""
        chosen = frozenset(patients)
        return bool(chosen) and not self.not_known and self._among(self.tuned, chosen) == chosen

    def judged(self, test: frozenset[str], tuning: frozenset[str], *, are_of_splits: bool, leaves_out: bool) -> JudgedPatients:
        """What a report says of the patients of an evaluation; those who may be one person count once.

        Args:
            test: Patients who judge the weights.
            tuning: Patients on whom thresholds and recalibration are chosen.
            are_of_splits: The weights are known to have been trained on the splits that these are of.
            leaves_out: Whom the weights have seen is left out.

        Raises:
            CheckpointError: The weights have seen some of them, and these are not to be left out.
        """
        trained = self._persons(self.in_training(test))
        tuned = self._persons(self.at_all(test)) - trained
        fitted = self._persons(self.in_training(tuning))
        if (trained or tuned or fitted) and not leaves_out:
            raise CheckpointError(
                f"The weights {self.sha256[:12]} have seen patients by whom they would be judged",
                expected="no test patient they were trained or tuned on, no tuning patient they were trained on",
                got=f"of {self._persons(test)} test patients {trained} trained on and {tuned} tuned on; "
                f"of {self._persons(tuning)} tuning patients {fitted} trained on",
                remedy="restore the splits of their training, or train on the present ones; or leave these patients out: "
                "`mammo evaluate CONFIG.yaml --leave-out-seen`, evaluate.leave_out_seen",
            )
        return JudgedPatients(
            is_checked=are_of_splits or not self.not_known,
            not_checked="" if are_of_splits else self.not_known,
            test_left_out=trained + tuned,
            tuning_left_out=fitted,
        )

    def _among(self, digests: frozenset[str], patients: Iterable[str]) -> frozenset[str]:
        members = defaultdict[str, set[str]](set)
        for patient, person in self.persons.items():
            members[person].add(patient)
        names_of = (
            (one, _names(one, self.persons) | members.get(self.persons.get(one, ""), set()) | self.former.get(one, frozenset()))
            for one in patients
        )
        return frozenset(one for one, names in names_of if any(_digest(self.key_id, name) in digests for name in names))

    def _persons(self, patients: Iterable[str]) -> int:
        return len({self.persons.get(patient, patient) for patient in patients})


def known_by_former_names(
    members: Sequence[EnsembleMember], key_id: str, persons: Mapping[str, str], former: Mapping[str, frozenset[str]]
) -> tuple[str, ...]:
    """Patients whom weights know under a former pseudonym alone: who does not ask for those calls them unseen.

    Raises:
        CheckpointError: A list is gone or was altered.
    """
    now, ever = (SeenBy.of(members, key_id, persons, names).at_all(former) for names in ({}, former))
    return tuple(sorted(ever - now))


def refuse_other_splits(splits: SplitReport, trained: TrainReport) -> None:
    """Test patients of these splits may have been training patients of those.

    Raises:
        StoreError: The network was trained on another division.
    """
    if trained.splits_sha256 and trained.splits_sha256 != file_sha256(splits.splits_path):
        raise StoreError(
            "The network was trained on another division of the patients",
            expected="the splits of the training",
            got=f"splits made after it, {splits.splits_path}",
            remedy="run `mammo train CONFIG.yaml` on the present splits first",
        )


# ---------------------------------------------------------------------------------------------------------------------


def _names(patient: str, persons: Mapping[str, str]) -> set[str]:
    return {patient, persons.get(patient, patient)}


def _digest(key_id: str, pseudonym: str) -> str:
    return hashlib.sha256(f"seen\0{key_id}\0{pseudonym}".encode()).hexdigest()[:_HEX_DIGITS]
