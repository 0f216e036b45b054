"""The folder that a data set was downloaded into: its files by name, its tables, and the headers and sizes of its images.

Nothing below it is changed. A public set's files are read in this process, unlike a clinic's (decision 0006): whoever names a
set has fetched it from its publisher; what goes into a store goes through the gate all the same.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import DatasetError, DicomError
from tasks.adapters.datasets.published.reading import Facts
from tasks.adapters.datasets.published.tables import Table

if TYPE_CHECKING:
    from tasks.adapters.dicom.header import DicomHeader

_NOT_OF_THE_SET: Final = frozenset({"__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN"})
PICTURES: Final = frozenset({".pgm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
"""Endings of images that are not DICOM."""
_ARCHIVES: Final = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
DICOM_ENDINGS: Final = (".dcm", ".dicom")


@dataclass(frozen=True)
class Tree:
    """A set's folder.

    Attributes:
        is_partial: A part was downloaded: what the tables name and is not there is counted, not refused.
        headers: What was read of DICOM files.
        sizes_px: Rows and columns of images whose files nobody reads here, as the set's tables say.
        repeated: Lines that stand in a table a second time, by the table's name; they are read once.
    """

    root: Path
    facts: Facts
    is_partial: bool = False
    headers: dict[str, DicomHeader] = field(default_factory=dict)
    sizes_px: dict[str, tuple[int, int]] = field(default_factory=dict)
    repeated: Counter[str] = field(default_factory=Counter)

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Every file's path below the folder with ``/``, in order; hidden ones and what a disk puts there left out.

        Raises:
            DatasetError: A folder cannot be listed, or is a link: what it holds would be missed without a word.
        """
        return tuple(sorted(_walk(self.root, self.facts)))

    @cached_property
    def present(self) -> frozenset[str]:
        """The same, to ask whether a file is there."""
        return frozenset(self.files)

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[str]]:
        """Paths by their last part in lower case; those nearest to the folder first."""
        found: dict[str, list[str]] = defaultdict(list)
        for path in self.files:
            found[path.rpartition("/")[2].casefold()].append(path)
        return {name: sorted(paths, key=lambda path: (path.count("/"), path)) for name, paths in found.items()}

    def matching(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """Files whose path ends as a pattern says, with what it captured; ``match.string`` is the path."""
        for path in self.files:
            if (match := pattern.search(path)) is not None:
                yield match

    def find(self, *names: str) -> Path | None:
        """The first file of one of these names, whatever its case; None = there is none."""
        for name in names:
            if paths := self.by_name.get(name.casefold()):
                return self.root / paths[0]
        return None

    def table(
        self,
        *names: str,
        columns: Sequence[str],
        optional: Sequence[str] = (),
        texts: Sequence[str] = (),
        sheet: str | None = None,
        may_repeat: bool = False,
    ) -> Table:
        """The first table of one of these names.

        Raises:
            DatasetError: There is none.
        """
        path = self.find(*names)
        if path is None:
            self.refuse_missing(" or ".join(names))
        return Table(
            path=path,
            columns=tuple(columns),
            optional=tuple(optional),
            texts=tuple(texts),
            sheet=sheet,
            get=self.facts.get,
            may_repeat=may_repeat,
            repeated=self.repeated,
        )

    def refuse_missing(self, what: str) -> NoReturn:
        """Says which file is not there, and where it is got."""
        raise DatasetError(
            f"{self.facts.title} needs {what}, which is not below {self.root}",
            expected=", ".join(self.facts.needs),
            got=f"{len(self.files)} other files{self._archives}" if self.files else "an empty folder",
            remedy=f"{'unpack the archives; or ' if self._archives else ''}get it from {self.facts.get}, "
            "or give the folder that holds it",
        )

    @property
    def _archives(self) -> str:
        """How many of the files are packed: nothing is read out of an archive."""
        packed = sum(path.casefold().endswith(_ARCHIVES) for path in self.files)
        return f", {packed} of them archives" if packed else ""

    def remark_missing(self, what: str) -> str:
        """A sentence on a part that is not there where a part of the set is meant; else it is refused.

        Raises:
            DatasetError: The whole set is meant.
        """
        if not self.is_partial:
            self.refuse_missing(what)
        return f"{what} is not here: what it says is not known."

    def header(self, path: str) -> DicomHeader:
        """Of a DICOM file; read once.

        Raises:
            DatasetError: The file is no readable DICOM file.
        """
        from tasks.adapters.dicom.dicom_file import read_header  # the profiles are part of each run, which decodes nothing here

        if path not in self.headers:
            self.headers[path] = _guarded(lambda: read_header(self.root / path), path, self.facts)
        return self.headers[path]

    def size_px(self, path: str) -> tuple[int, int]:
        """Rows and columns of an image.

        Raises:
            DatasetError: It cannot be read.
        """
        if path in self.sizes_px:
            return self.sizes_px[path]
        if is_picture(path):
            rows, columns = self.picture(path).shape[:2]
            return rows, columns
        header = self.header(path)
        if not header.rows or not header.columns:
            raise _unreadable(path, "no size", self.facts)
        return header.rows, header.columns

    def pixels(self, path: str) -> NDArray[np.generic]:
        """Of any image, as stored.

        Raises:
            DatasetError: It cannot be read.
        """
        if is_picture(path):
            return self.picture(path)

        from tasks.adapters.dicom.dicom_file import read_image_from

        def decode() -> NDArray[np.generic]:
            with (self.root / path).open("rb") as file:
                return read_image_from(file).pixels_HW

        return _guarded(decode, path, self.facts)

    def picture(self, path: str) -> NDArray[np.generic]:
        """A picture's grey values; of a coloured one whose channels are equal, one of them, else its luminance.

        Raises:
            DatasetError: It cannot be read.
        """
        try:
            content = np.frombuffer((self.root / path).read_bytes(), np.uint8)
        except OSError as error:
            raise _unreadable(path, error.strerror or type(error).__name__, self.facts) from error
        # A table may name a picture's turn (EXIF); the pixels that outlines refer to are those that are stored.
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION) if content.size else None
        if pixels is None:
            raise _unreadable(path, "no picture", self.facts)
        if pixels.ndim == 3:
            colours = pixels[..., :3]
            is_grey = bool((colours == colours[..., :1]).all())
            return np.ascontiguousarray(colours[..., 0]) if is_grey else cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY)
        return pixels


def is_picture(path: str) -> bool:
    """True for an image that is not DICOM, by its name."""
    return os.path.splitext(path)[1].casefold() in PICTURES  # noqa: PTH122


_T = TypeVar("_T")


def _guarded(read: Callable[[], _T], path: str, facts: Facts) -> _T:
    failure: str
    try:
        return read()
    except DicomError as error:
        failure = str(error)
    except OSError as error:
        failure = error.strerror or type(error).__name__
    raise _unreadable(path, failure, facts)


def _unreadable(path: str, got: str, facts: Facts) -> DatasetError:
    return DatasetError(
        f"{path} cannot be read", expected="a whole file of the set", got=got, remedy=f"download it again ({facts.get})"
    )


def _walk(root: Path, facts: Facts) -> Iterator[str]:
    """Masks and records of which some images have none are missed by nobody, so nothing is passed over."""
    start = len(os.fspath(root).rstrip("/")) + 1

    def refuse(error: OSError) -> None:
        raise DatasetError(
            f"{error.filename} cannot be listed",
            expected=f"the folders of {facts.title}, readable",
            got=error.strerror,
            remedy="give the user who runs mammo the right to read and enter it",
        ) from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_OF_THE_SET)
        for name in folders:
            if os.path.islink(path := os.path.join(folder, name)):  # noqa: PTH114, PTH118
                raise DatasetError(
                    f"{path} is a link to a folder",
                    expected=f"the folders of {facts.title}: links are not followed",
                    got="a link",
                    remedy="put the folder itself into its place (moved, copied, or by `mount --bind`)",
                )
        prefix = folder[start:].replace(os.sep, "/")
        for name in names:
            if not name.startswith("."):
                yield f"{prefix}/{name}" if prefix else name
