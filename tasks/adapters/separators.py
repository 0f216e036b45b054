"""What separates the columns of a table that a person gives."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    _Reader = csv.DictReader[str]
else:
    _Reader = csv.DictReader  # Python 3.11 takes no type there

SEPARATORS: Final = ",;\t"


def separator_of(header: str) -> str:
    """Comma, semicolon or tab: which of them the header has most of.

    A spreadsheet writes semicolons in every language whose numbers have a comma, and nobody is asked which it should be.
    """
    return max(SEPARATORS, key=header.count)


class TooManyFields(csv.Error):
    """A line has more fields than the header has names: its values stand under the names of others."""


class _Rows(_Reader):
    def __next__(self) -> dict[str | Any, str | Any]:
        row = super().__next__()
        if any(value.strip() for value in row.pop(None, ())):
            raise TooManyFields(f"line {self.line_num} has more fields than the header: quote those that hold the separator")
        return row


def csv_rows(file: TextIO) -> csv.DictReader[str]:
    """The lines of a table from its beginning, by the names of its header.

    Args:
        file: Opened for reading with ``newline=""``; it can be sought.

    Raises:
        UnicodeDecodeError: The header is of another encoding. Iterating raises it too, and ``csv.Error`` for broken quotes, and
            ``TooManyFields`` where a decimal comma, say, made two fields of one.
    """
    header = file.readline()
    file.seek(0)
    return _Rows(file, strict=True, delimiter=separator_of(header))


def fault_of(error: OSError | UnicodeDecodeError | csv.Error) -> str:
    """Why a table cannot be read; quotes nothing of it, which what the libraries say may do."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, TooManyFields):
        return str(error)
    return (
        "bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else "a quote or character that CSV does not allow"
    )
