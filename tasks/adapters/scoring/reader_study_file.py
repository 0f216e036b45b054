"""The reader study's file, as the public one is laid out, from any site: one line per breast, ``Reader*_POM``, ``AI_*_POM``.

Columns: ``case_ID`` (exam), ``side`` (L or R), ``label`` (0, 1, or empty for not known), one ``Reader<name>_POM`` per reader
and one ``AI_<name>_POM`` per model: probability of malignancy, 0 to 1. Other columns are ignored. No error quotes a value of a
line: a ``case_ID`` may identify a patient.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from gmic_model.reader_study.study import ReaderStudy
from schemas.errors import LabelError
from schemas.exam import UNKNOWN, Laterality
from tasks.adapters.separators import separator_of

READER_PREFIX, MODEL_PREFIX, SCORE_SUFFIX = "Reader", "AI_", "_POM"
PUBLIC_MODEL = "GMIC_top5"
PUBLIC_NOTE = (
    "The public file's model scores come from the later (2020) network, not from the paper's (2019): there GMIC_top5 has "
    "AUROC 0.881 where the paper's Figure 3 has 0.876. The public file's readers are the paper's."
)
_LAYOUT = "case_ID, side, label, Reader<name>_POM (one or more), AI_<name>_POM (one or more)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStudyFile:
    """The study, its file's digest, and what must be said of it."""

    study: ReaderStudy
    source_sha256: str
    notes: tuple[str, ...]

    def default_model(self) -> str:
        """The paper's ensemble if the file has it, else its first model."""
        names = list(self.study.model_MB)
        return PUBLIC_MODEL if PUBLIC_MODEL in names else names[0]


def read_reader_study(path: Path) -> ReaderStudyFile:
    """Reads and checks the file.

    Raises:
        LabelError: It cannot be read, lacks columns, or holds values that have no meaning.
    """
    try:
        content = path.read_bytes()
        header = content.partition(b"\n")[0].decode("utf-8", errors="replace")
        table = pd.read_csv(BytesIO(content), sep=separator_of(header))
    except (OSError, ValueError) as unreadable:  # pandas' parser errors are ValueErrors
        raise LabelError(
            f"The reader study {path.name} cannot be read as CSV", expected=_LAYOUT, got=type(unreadable).__name__,
            remedy="give a file with a header line, separated by comma, semicolon or tab",
        ) from unreadable  # fmt: skip
    readers, models = _score_columns(table, READER_PREFIX), _score_columns(table, MODEL_PREFIX)
    _require_layout(table, readers, models, path.name)
    study = ReaderStudy(
        label_B=_labels(table["label"], path.name),
        exam_B=table["case_ID"].astype(str).to_numpy(np.str_),
        reader_JB={name: _probabilities(table[column], path.name) for name, column in readers.items()},
        model_MB={name: _probabilities(table[column], path.name) for name, column in models.items()},
    )
    return ReaderStudyFile(
        study=study,
        source_sha256=hashlib.sha256(content).hexdigest(),
        notes=(PUBLIC_NOTE,) if PUBLIC_MODEL in models else (),
    )


def _score_columns(table: pd.DataFrame, prefix: str) -> dict[str, str]:
    """Short name to column, in the file's order; ``Reader01_POM`` is ``Reader01``, ``AI_GLAM_POM`` is ``GLAM``."""
    columns = [str(column) for column in table.columns]
    kept = [column for column in columns if column.startswith(prefix) and column.endswith(SCORE_SUFFIX)]
    return {column.removesuffix(SCORE_SUFFIX).removeprefix(MODEL_PREFIX): column for column in kept}


def _require_layout(table: pd.DataFrame, readers: dict[str, str], models: dict[str, str], name: str) -> None:
    missing = [column for column in ("case_ID", "side", "label") if column not in table.columns]
    missing += [f"{prefix}<name>{SCORE_SUFFIX}" for prefix, found in (("Reader", readers), ("AI_", models)) if not found]
    if missing:
        raise LabelError(
            f"{name} lacks columns of a reader study", expected=_LAYOUT, got=f"no {', '.join(missing)}",
            remedy="rename the columns; a study without a model needs none of this command",
        )  # fmt: skip
    if table.empty:
        raise LabelError(f"{name} holds no breast", expected="one line per breast", got="a header only")
    sides = table["side"].astype(str)
    strange = int((~sides.isin([side.value for side in Laterality])).sum())
    if strange or table["case_ID"].isna().any():
        raise LabelError(
            f"{name} has lines without an exam or a side", expected="case_ID filled, side L or R",
            got=f"{strange} other sides, {int(table['case_ID'].isna().sum())} empty case_IDs",
        )  # fmt: skip
    repeated = int(table.duplicated(["case_ID", "side"]).sum())
    if repeated:
        raise LabelError(
            f"{name} holds breasts twice", expected="one line per case_ID and side", got=f"{repeated} repeated lines",
            remedy="keep one line per breast; several readings belong into several Reader columns",
        )  # fmt: skip


def _labels(column: pd.Series, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    is_empty = column.isna().to_numpy(bool)
    strange = int((~np.isin(numbers, (0.0, 1.0)) & ~is_empty).sum())
    if strange:
        raise LabelError(
            f"{name} has labels without a meaning", expected="0 (no cancer), 1 (cancer) or empty (not known)",
            got=f"{strange} other values among {len(numbers)}",
        )  # fmt: skip
    return np.where(is_empty, UNKNOWN, np.nan_to_num(numbers)).astype(np.int64)


def _probabilities(column: pd.Series, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    missing = int((~np.isfinite(numbers)).sum())
    if missing:
        raise LabelError(
            f"Column {column.name} of {name} is not complete", expected="a number for every breast",
            got=f"{missing} empty or unreadable among {len(numbers)}",
            remedy="leave out the reader, or the breasts: this analysis needs every reader on every breast",
        )  # fmt: skip
    outside = int(((numbers < 0.0) | (numbers > 1.0)).sum())
    if outside:
        raise LabelError(
            f"Column {column.name} of {name} holds no probabilities", expected="values from 0 to 1",
            got=f"{outside} outside, largest {numbers.max():g}",
            remedy="divide percentages by 100",
        )  # fmt: skip
    return numbers
