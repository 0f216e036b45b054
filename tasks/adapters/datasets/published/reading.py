"""What is read of a public data set: its images, what is known of its breasts, its marks, and its published counts.

A module of ``sets`` turns the set's own files into these records; what is common to all sets is done with them here and in
the modules beside. None means not known, and is never written as 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schemas.exam import Acquisition
from tasks.adapters.datasets.published.regions import Shape

if TYPE_CHECKING:
    from tasks.adapters.datasets.published.tree import Tree

NOT_THERE: Final = "not downloaded"
"""Why an image is left out that the set's tables name and whose file is not below the folder."""
NOT_NAMED: Final = "no row in the set's tables"
"""Why a DICOM file is left out that is below the folder and that no table names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A mammogram of the set.

    Attributes:
        path: Below the set's folder, with ``/``.
        patient: As the set names her.
        exam: What the set calls one visit.
        laterality: ``L`` or ``R``.
        view: ``CC`` or ``MLO``; another name where the image is left out for it.
        acquisition: How it came to be.
        split: The set's own, ``train`` or ``test``; None = it has none.
        left_out: Why it is not used; None = it is.
    """

    path: str
    patient: str
    exam: str
    laterality: str
    view: str
    acquisition: str = Acquisition.FFDM.value
    split: str | None = None
    left_out: str | None = None

    @property
    def is_of_the_set(self) -> bool:
        """True if it is used, or would be if its file were here: labels, splits and counts are of these."""
        return self.left_out in {None, NOT_THERE}

    @property
    def breast(self) -> BreastKey:
        """Which breast it shows."""
        return self.patient, self.exam, self.laterality


BreastKey = tuple[str, str, str]
"""Patient, exam, side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breast:
    """What the set says of a breast in one exam."""

    patient: str
    exam: str
    laterality: str
    benign: int | None
    malignant: int | None
    label_source: str
    birads: int | None = None
    density: str | None = None
    finding_type: str | None = None

    @property
    def key(self) -> BreastKey:
        """Which breast it is."""
        return self.patient, self.exam, self.laterality


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """A mark on an image; ``finding`` is ``benign``, ``malignant`` or None.

    Attributes:
        inherits: A mark without a class has that of its breast, if it has exactly one.
    """

    path: str
    finding: str | None
    shape: Shape
    inherits: bool = True


@dataclass(slots=True, kw_only=True)
class Reading:
    """All that is read of a set.

    Attributes:
        marks: Lesions that the set's tables place; those in files of their own are read image by image by ``lesions``.
        faults: Named rules that were applied, and how often.
        counts: What is compared with ``Facts.counts``, by name.
        patients_in_both: Patients whom the set's own split puts into both parts; their images say ``train``.
        notes: What ``read`` keeps for ``lesions`` of the same set.
        remarks: Sentences for the reader of the report.
        helpers: True for a DICOM file that is a mask or crop of another: it is no image of its own.
        is_without_pixels: The annotations alone are read: what the images' files hold is not read here.
    """

    images: list[Image] = field(default_factory=list)
    breasts: list[Breast] = field(default_factory=list)
    marks: list[Lesion] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)
    patients_in_both: frozenset[str] = frozenset()
    notes: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    is_without_pixels: bool = False
    helpers: Callable[[str], bool] = lambda path: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A published number; ``published`` holds one for each release of which it is known.

    Attributes:
        needs_files: It counts files: nothing to compare where a part of them was downloaded.
    """

    name: str
    published: tuple[int, ...]
    source: str
    needs_files: bool = False


def counts(source: str, *, needs_files: bool = False, **published: int | tuple[int, ...]) -> tuple[Count, ...]:
    """Counts of one source, by name."""
    return tuple(
        Count(
            name=name,
            published=value if isinstance(value, tuple) else (value,),
            source=source,
            needs_files=needs_files,
        )
        for name, value in published.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A choice that a reader of the set may make; the first value is what is done without."""

    values: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a set before it is looked at.

    Attributes:
        needs: Files and folders that are read.
        get: Where they are got.
        shares_data: The terms allow passing on what is made of the data.
        shares_weights: The terms allow passing on weights that were trained on it.
        spacing_mm: Of images that are not DICOM; None = not known.
        is_lossy: Images that are not DICOM come from a lossy picture.
    """

    name: str
    title: str
    licence: str
    size: str
    release: str
    needs: tuple[str, ...]
    get: str
    source: str
    counts: tuple[Count, ...] = ()
    policies: Mapping[str, Policy] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    shares_data: bool = True
    shares_weights: bool = True
    spacing_mm: float | None = None
    is_lossy: bool = False

    @property
    def terms(self) -> str:
        """What must not be passed on, in a sentence; "" = the licence allows it."""
        forbidden = [word for word, may in (("data", self.shares_data), ("weights", self.shares_weights)) if not may]
        if not forbidden:
            return ""
        return f"The terms of {self.title} forbid passing on {' and '.join(forbidden)} made of this set ({self.licence})."


Policies = Mapping[str, str]
"""The value in force of each policy of a set."""


def no_lesions(tree: Tree, reading: Reading) -> Iterator[Lesion]:
    """Of a set whose marks are all in its tables, or that has none."""
    yield from reading.marks


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A public data set: what is known of it, and how it is read.

    Attributes:
        read: From names and tables to a reading; opens no pixels, and of DICOM files the headers alone.
        lesions: The marks, image by image; may open masks.
        profile: The gate profile that its images come in under.
    """

    facts: Facts
    read: Callable[[Tree, Policies], Reading]
    lesions: Callable[[Tree, Reading], Iterator[Lesion]] = no_lesions
    profile: str = "clinical-strict"
