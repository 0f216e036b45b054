"""Scores of a folder's images, without a store: gate, crop, rules between files and network are those of ingest and predict.

    with Scorer(config) as scorer:
        scored = scorer.score(folder)          as often as one likes

Weights stay loaded, and so do the gate's children; both are looked at before each folder, and loaded again where others are in
use by then. Files are read ahead while the network has the image before; of each image there is one copy, until it is scored.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.devices import Device, choose_device
from gmic_model.preprocess import PreparedView
from schemas.config.ingest import PreprocessConfig
from schemas.config.run import RunConfig
from schemas.errors import CheckpointError, DicomError, FileDeferred, NoExamsFound, SourceUnavailable
from schemas.exam import UNKNOWN, QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.gate.child import child_of_this_thread
from tasks.adapters.gate.gate_settings import GateSettings, gate_settings
from tasks.adapters.gate.messages import PrepareImage
from tasks.adapters.gate.source_file import SourceFile, file_fingerprint
from tasks.adapters.inbox.claims import publishable, with_issuer_of_exam
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.shard_writer import refusal, stored_line
from tasks.adapters.inbox.source_folder import named_files, source_files
from tasks.adapters.inbox.withdrawals.withdrawal import names_of_line, read_log
from tasks.adapters.lifecycle.in_use import named_folder, weights_to_predict_with
from tasks.adapters.models.whole_models import WholeModel, load_model, model_files
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.scoring.score_tables import LABEL_COLUMNS, image_table
from tasks.adapters.scoring.scored_views import Scoring, score_rows
from tasks.adapters.store.parts import is_new
from tasks.adapters.store.views import seen_fractions
from tasks.adapters.workspace import Workspace

READERS: Final = 2
"""Files that are read at the same time; each reader has a child of the gate."""
_AHEAD: Final = 3
_NAME: Final = re.compile(r"(?:image )?([FI][0-9a-f]{24})")
"""Of a file or an image, as refusals by rules between files name it."""
_WITHDRAWN: Final = Refusal(rules=(), what="It shows what was withdrawn from this workspace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFolder:
    """What became of a folder's files.

    Attributes:
        model: What scored.
        table: A line for each image that counts, as ``predict`` has it.
        lines: The same images as the ledger would have them, by row: the number of their file, counted from 0.
        not_used: Files that the gate, a rule between files, or a withdrawal keeps out, by row.
        copies: Files that hold an image of another file once more.
        files: All files that were looked at.
    """

    model: WholeModel
    table: pd.DataFrame
    lines: Mapping[int, Mapping[str, Any]]
    not_used: Mapping[int, Refusal]
    copies: int
    files: int


class Scorer:
    """A network that is loaded once. Not for sharing between threads."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="gate")
        self._loaded: _Loaded | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the readers, and their children with them."""
        self._readers.shutdown(cancel_futures=True)
        self._loaded = None

    def ready(self) -> None:
        """Loads the weights now, before the first folder comes.

        Raises:
            ConfigError: There are none.
            CheckpointError: They are missing, were altered, or are of images of another preprocessing.
        """
        self._weights()

    def score(self, source_dir: Path) -> ScoredFolder:
        """Takes every file below a folder through the gate and scores what it accepts; nothing of it is kept anywhere.

        Raises:
            ConfigError: There are no weights, no such profile, or no key.
            CheckpointError: The weights are missing, were altered, or are of images of another preprocessing.
            NoExamsFound: The folder holds no file.
            SourceUnavailable: A file or folder cannot be read at the moment: a part of an exam is not scored.
        """
        loaded, config = self._weights(), _reading_from(self._config, source_dir)
        profile_named(config.ingest.profile)
        workspace = Workspace(config.workspace_dir)
        pseudonyms = open_key(workspace.key_path, creates=is_new(workspace))
        listing = source_files(source_dir, pseudonyms)
        if listing.unreadable:
            raise _not_now(listing.unreadable)
        gate, row_of = gate_settings(config), {file.file_id: row for row, file in enumerate(listing.files)}
        files = named_files(listing.files, gate)
        if not files:
            raise _no_files(source_dir)
        how = Scoring.of(config)
        lines, score_by_row, refused = list[LedgerLine](), dict[int, NDArray[np.float64]](), list[QuarantinedFile]()
        for read in self._read(gate, files, row_of):
            if read.view is None or read.line is None:
                refused += [] if read.refused is None else [read.refused]
                continue
            by_row = {read.line.row: read.view}
            (scored,) = score_rows(
                loaded.model.network, by_row.__getitem__, [*by_row], batch_images=1, device=loaded.device, scoring=how
            )
            score_by_row[scored.row] = scored.score_C
            lines.append(read.line)
        gone = frozenset(name for withdrawal in read_log(workspace.store) for name in withdrawal.names)
        present = [line for line in lines if names_of_line(line).isdisjoint(gone)]
        said = {line.row: line for line in with_issuer_of_exam(present, pseudonyms)}
        found = publishable([said.get(line.row, line) for line in present])
        not_used = {row_of[file.file_id]: file.refusal for file in refused}
        of_images = {line.image_id: line.row for line in found.lines}
        not_used |= {row_of[file.file_id]: _of_numbers(file.refusal, row_of | of_images) for file in found.refused}
        not_used |= {line.row: _WITHDRAWN for line in lines if line not in present}
        rows = [line.row for line in found.lines]
        return ScoredFolder(
            model=loaded.model,
            table=_table(found.lines, [score_by_row[row] for row in rows], loaded.model.sha256, config.preprocess.window_px),
            lines={line.row: line.stored for line in found.lines},
            not_used=dict(sorted(not_used.items())),
            copies=found.copies,
            files=len(files),
        )

    # ---------------------------------------------------------------------------------------------------------------

    def _read(self, gate: GateSettings, files: Sequence[SourceFile], row_of: Mapping[str, int]) -> Iterator[_Read]:
        """Files through the gate, in their order and a few ahead.

        Raises:
            SourceUnavailable: One cannot be read at the moment.
        """
        waiting = deque[Future[_Read]]()
        try:
            for file in files:
                waiting.append(self._readers.submit(_prepared, gate, self._config.preprocess, row_of[file.file_id], file))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _weights(self) -> _Loaded:
        named = named_folder(self._config)
        mark = _mark_of(named)
        if self._loaded is None or self._loaded.mark != mark:
            self._loaded = None  # first: two networks are not in memory together
            model = load_model(weights_to_predict_with(self._config))
            self._loaded = _Loaded(mark, model, choose_device(self._config.train))
        return self._loaded


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Loaded:
    mark: tuple[str, ...]
    model: WholeModel
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """One file: a view with its line, or why there is none."""

    view: PreparedView | None = None
    line: LedgerLine | None = None
    refused: QuarantinedFile | None = None


def _prepared(gate: GateSettings, preprocess: PreprocessConfig, row: int, file: SourceFile) -> _Read:
    """In a reader's thread: the same question to the gate as the writer of a shard asks, and the same line of the answer."""
    request = PrepareImage(
        path=file.path,
        gate=gate,
        fingerprint=file.fingerprint,
        preprocess=preprocess,
        canvas_px=preprocess.canvas_px,
        mask_path=None,
        named=gate.named(file.path),
    )
    reason = ""
    try:
        ready = child_of_this_thread(gate.limits).prepare(request)
        return _Read(view=ready.prepared, line=LedgerLine(file_id=file.file_id, stored=stored_line(row, ready)))
    except DicomError as error:
        return _Read(refused=refusal(file, error))
    except FileDeferred as error:
        reason = error.reason
    raise _not_now({reason: 1})


def _of_numbers(refusal: Refusal, row_of: Mapping[str, int]) -> Refusal:
    """By a rule between files, for a caller who has no store to put in order: he knows files by their numbers."""
    what = _NAME.sub(lambda found: f"file {row_of[found[1]] + 1}" if found[1] in row_of else found[0], refusal.what)
    if "`mammo" not in (refusal.remedy or ""):
        return replace(refusal, what=what)
    return replace(refusal, what=what, remedy="find out which are right, leave the others out of the folder, then run again")


def _no_files(source_dir: Path) -> NoExamsFound:
    if source_dir.is_dir():
        return NoExamsFound("The input folder holds no file", expected="DICOM files of at least one exam")
    return NoExamsFound(
        "There is no input folder",
        expected="a folder with DICOM files of at least one exam",
        got="a file" if source_dir.exists() else "nothing of this name",
        remedy="see whether the name is right, and the disk with the folder is there",
    )


def _not_now(reasons: Mapping[str, int]) -> SourceUnavailable:
    return SourceUnavailable(
        "The input folder cannot be read as a whole at the moment, so nothing is scored",
        got=", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items())),
        remedy="see that its disk or share is there and may be read, then run again",
    )


def _table(
    lines: Sequence[LedgerLine], scores: Sequence[NDArray[np.float64]], sha256: str, window_px: tuple[int, int]
) -> pd.DataFrame:
    """As ``predict`` makes it of its manifest; these images are in no store, so their data have no version."""
    if not lines:
        return pd.DataFrame()
    manifest = pd.DataFrame([{**line.stored, **dict.fromkeys(LABEL_COLUMNS, UNKNOWN)} for line in lines])
    rows = [line.row for line in lines]
    table = image_table(manifest, rows, np.stack(scores), model="model", sha256=sha256, data_version="")
    return table.assign(breast_seen_fraction=seen_fractions(manifest, window_px))


def _reading_from(config: RunConfig, source_dir: Path) -> RunConfig:
    return config.model_copy(update={"ingest": config.ingest.model_copy(update={"source_dir": source_dir, "source": None})})


def _mark_of(folder: Path) -> tuple[str, ...]:
    """Changes when other weights are meant, or when somebody touches the files of these."""
    try:
        return str(folder), *(file_fingerprint(path.stat()) for path in model_files(folder))
    except (OSError, CheckpointError) as gone:
        return str(folder), str(gone)
