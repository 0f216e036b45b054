"""Tables as data sets publish them: CSV, XLSX, XLS, JSON and property lists, every cell as text and nothing guessed.

A table that a spreadsheet program has opened and saved is refused where that can be seen: identifiers with an exponent, numbers
with a decimal comma, or another encoding. What it has destroyed cannot be had back. A line that stands twice is read once.
"""

from __future__ import annotations

import csv
import json
import plistlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, NoReturn
from xml.parsers.expat import ExpatError

from schemas.errors import DatasetError
from tasks.adapters.separators import separator_of

Row = Mapping[str, str]
_SPREADSHEETS: Final = frozenset({".xlsx", ".xls", ".xlsm", ".xlsb", ".ods"})
_EXPONENT: Final = re.compile(r"\d(?:[.,]\d+)?[eE]\+?\d+")
_LONGEST_CELL: Final = 10_000_000
_EXACT_DIGITS: Final = 15  # what a spreadsheet keeps of a number
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that is read row by row, as often as it is asked.

    Attributes:
        name: How messages name the file.
        columns: The set's names of the columns that are wanted, by which rows are asked.
        texts: Columns that hold identifiers: a number with an exponent there is an identifier that was destroyed.
        get: Where the table is got.
        may_repeat: Two equal lines are two rows of it, as the publisher counts them.
        repeated: How often a line stood in it before, by the table's name; filled while it is read.
    """

    path: Path
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    sheet: str | None = None
    get: str = ""
    may_repeat: bool = False
    repeated: Counter[str] = field(default_factory=Counter, compare=False)

    @property
    def name(self) -> str:
        """Of the file."""
        return self.path.name

    def __iter__(self) -> Iterator[Row]:
        """The rows that hold anything, with the wanted columns alone; a cell that is not there is "".

        Raises:
            DatasetError: The table cannot be read, lacks a column, or was saved by another program.
        """
        rows = self._cells()
        header = [plain(name) for name in next((cells for cells in rows if any(map(str.strip, cells))), [])]
        wanted = (*self.columns, *self.optional)
        places = {name: header.index(plain(name)) if plain(name) in header else -1 for name in wanted}
        missing = [name for name in self.columns if places[name] < 0]
        if missing:
            self.refuse(
                "lacks columns", expected=", ".join(self.columns), got=f"no {', '.join(missing)}: another file or release?"
            )
        seen: dict[str, str] = {}  # equal cells are one text: tables of half a million rows repeat themselves
        lines: set[int] = set()
        picked = [(name, place) for name, place in places.items() if place >= 0]
        nothing = dict.fromkeys((name for name, place in places.items() if place < 0), "")
        is_empty = True
        for number, cells in enumerate(rows, start=2):
            if not any(map(str.strip, cells)):
                continue
            is_empty = False
            if not self.may_repeat:
                if (line := hash(tuple(cells))) in lines:
                    self.repeated[self.name] += 1
                    continue
                lines.add(line)
            row = dict(nothing)
            for name, place in picked:
                cell = cells[place].strip() if place < len(cells) else ""
                row[name] = seen.setdefault(cell, cell) if len(seen) < 200_000 else seen.get(cell, cell)
                if "," in cell and _DECIMAL_COMMA.fullmatch(cell):
                    self.refuse(
                        f"holds a number with a decimal comma, in line {number}, column {name}",
                        expected="a decimal point",
                        got="a comma: a program has saved it in the manner of another country",
                    )
            for name in self.texts:
                row[name] = self._as_text(row[name], name, number)
            yield row
        if is_empty:
            self.refuse("holds no rows", expected="the table as it was published", got="its heading alone")

    def require(self, row: Row, column: str, words: Collection[str]) -> None:
        """Looks at the cell of a column that decides a label, a side or a split.

        Raises:
            DatasetError: It is none of the words that the publisher writes there: what it means is not guessed.
        """
        cell = row[column]
        if cell not in words:
            self.refuse(
                f"holds a row of another kind, in column {column}",
                expected=f"one of {', '.join(words)}",
                got=f"a text of {len(cell)} characters" if cell else "nothing",
            )

    def refuse(self, what: str, *, expected: object = None, got: object = None) -> NoReturn:
        """Says that the table is not as it was published."""
        raise DatasetError(
            f"{self.name} {what}",
            expected=expected,
            got=got,
            remedy=f"download it again ({self.get}) and do not save it from a spreadsheet program",
        )

    def _as_text(self, cell: str, column: str, number: int) -> str:
        """An identifier as it was published: one that became a number and is still exact has no point."""
        if _EXPONENT.fullmatch(cell):
            self.refuse(
                f"holds rounded identifiers, in line {number}, column {column}",
                expected="digits as text",
                got="a number with an exponent: a program has read the identifiers as numbers, and they are lost",
            )
        if cell.endswith(".0") and len(cell) > _EXACT_DIGITS + 2:
            self.refuse(
                f"holds rounded identifiers, in line {number}, column {column}",
                expected="digits as text",
                got="a floating point number of more digits than it can hold",
            )
        return cell[:-2] if cell.endswith(".0") and cell[:-2].isdigit() else cell

    def _cells(self) -> Iterator[list[str]]:
        if self.path.suffix.lower() in _SPREADSHEETS:
            return self._spreadsheet_cells()
        return self._csv_cells()

    def _csv_cells(self) -> Iterator[list[str]]:
        csv.field_size_limit(_LONGEST_CELL)
        failure: str
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                first = next((line for line in file if line.strip()), "")
                file.seek(0)
                reader = csv.reader(file, delimiter=separator_of(first))
                width, is_cut = 0, False
                for cells in reader:
                    is_cut = 0 < len(cells) < width
                    width = width or len(cells)
                    yield cells
            if not is_cut or self._ends_a_line():
                return
            failure = "its last line is cut off"
        except UnicodeDecodeError:
            failure = "another encoding: a program has saved it anew"
        except csv.Error as error:
            failure = str(error)
        except OSError as error:
            failure = error.strerror or type(error).__name__
        self.refuse("cannot be read", expected="CSV in UTF-8", got=failure)

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) in b"\r\n"

    def _spreadsheet_cells(self) -> Iterator[list[str]]:
        from python_calamine import CalamineError, CalamineWorkbook  # late: only the sets with spreadsheets need it

        failure: str
        try:
            with CalamineWorkbook.from_path(str(self.path)) as book:
                names = [name for name in book.sheet_names if name == self.sheet] or book.sheet_names
                first: list[list[str]] = []
                for name in names:  # a person may have put another sheet before the table's
                    sheet = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
                    rows = [[cell_text(cell) for cell in row] for row in sheet]
                    if self._has_columns(rows):
                        yield from rows
                        return
                    first = first or rows
                yield from first
                return
        except CalamineError as error:
            failure = str(error)
        except OSError as error:
            failure = error.strerror or type(error).__name__
        self.refuse("cannot be read", expected="a spreadsheet", got=failure)

    def _has_columns(self, rows: Sequence[Sequence[str]]) -> bool:
        header = {plain(name) for name in next((row for row in rows if any(row)), ())}
        return header.issuperset(map(plain, self.columns))


def cell_text(cell: object) -> str:
    """A spreadsheet's cell as text: a whole number without the point that its program gives it."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime) and (cell.hour, cell.minute, cell.second) == (0, 0, 0):
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, date | datetime) else str(cell).strip()


def plain(name: str) -> str:
    """A heading without case, line breaks and doubled blanks."""
    return " ".join(name.replace("\ufeff", "").split()).casefold()


def read_json(path: Path, *, get: str) -> Any:
    """A JSON file.

    Raises:
        DatasetError: It is none.
    """
    return _parsed(path, lambda content: json.loads(content), "JSON", get)


def read_plist(path: Path, *, get: str) -> Any:
    """A property list of Apple's; one that names files of its own is refused by the parser.

    Raises:
        DatasetError: It is none.
    """
    return _parsed(path, plistlib.loads, "a property list", get)


def _parsed(path: Path, parse: Any, kind: str, get: str) -> Any:
    failure: str
    try:
        return parse(path.read_bytes())
    except OSError as error:
        failure = error.strerror or type(error).__name__
    except (ValueError, ExpatError, plistlib.InvalidFileException, RecursionError, AttributeError, TypeError) as error:
        failure = type(error).__name__
    raise DatasetError(f"{path.name} cannot be read", expected=kind, got=failure, remedy=f"download it again ({get})")


def first_number(text: str) -> float | None:
    """A number in text; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def whole(text: str) -> int | None:
    """A whole number in text, also as ``3.0``; None if it is none."""
    number = first_number(text)
    return int(number) if number is not None and number == number and number.is_integer() else None


def points_of(numbers: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """x, y, x, y, … as points."""
    return tuple(zip(numbers[::2], numbers[1::2], strict=False))
