"""What separates the columns of a table that a person gives."""

from __future__ import annotations

import csv
from typing import Final, TextIO

SEPARATORS: Final = ",;\t"


def separator_of(header: str) -> str:
    """Comma, semicolon or tab: which of them the header has most of.

    A spreadsheet writes semicolons in every language whose numbers have a comma, and nobody is asked which it should be.
    """
    return max(SEPARATORS, key=header.count)


def csv_rows(file: TextIO) -> csv.DictReader[str]:
    """The lines of a table from its beginning, by the names of its header.

    Args:
        file: Opened for reading with ``newline=""``; it can be sought.

    Raises:
        UnicodeDecodeError: The header is of another encoding. Iterating raises it too, and ``csv.Error`` for broken quotes.
    """
    header = file.readline()
    file.seek(0)
    return csv.DictReader(file, strict=True, delimiter=separator_of(header))
