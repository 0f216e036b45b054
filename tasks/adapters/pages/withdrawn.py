"""Carrying withdrawals out to the end: the store, and then the pictures, tables and pages that were made of it.

Everything that is deleted here can be made again from what is left. Kept are the splits, which cannot, and weights: what a
network has learnt stays in it, and whether it may is for people to say (docs/how-to/when-a-wrong-image-was-published.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd

from schemas.config.run import Stage
from schemas.errors import StoreBusy
from schemas.reports.data import IngestReport
from schemas.reports.pages import PredictReport
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.publication import manifest_sizes
from tasks.adapters.inbox.store_ledger import StoreLedger, adopted
from tasks.adapters.inbox.withdrawals.removal import pending, take_out
from tasks.adapters.inbox.withdrawals.withdrawal import names_of_line
from tasks.adapters.lock import is_held
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.parts import is_unmade
from tasks.adapters.workspace import Workspace, write_atomically


def finish_withdrawals(workspace: Workspace) -> tuple[tuple[LedgerLine, ...], ...]:
    """Carries out what the log of withdrawals says and has not taken effect yet; mostly that is nothing.

    Call under the store's lock, before anything is read from it. Returns the images that each of them took out of the store.

    Raises:
        StoreError: A part of the store or the log is gone or damaged.
        OSError: The disk refuses; the next call goes on.
    """
    if is_unmade(workspace.store):
        return ()
    store = adopted(open_store(workspace.store_dir))
    with StoreLedger(store) as ledger:
        left = pending(store.files, ledger)
        if not left:
            return ()
        names = frozenset(name for withdrawal in left for name in withdrawal.names)
        taken = take_out(store, ledger, names)
        forget_pages(workspace, taken.image_ids | names)
        ledger.enter_withdrawals((withdrawal.line, withdrawal.names) for withdrawal in left)
    return tuple(
        tuple(line for line in taken.lines if not names_of_line(line).isdisjoint(withdrawal.names)) for withdrawal in left
    )


def require_nobody_reads(workspace: Workspace) -> None:
    """Refuses while a training or search goes on: it reads rows that are to be overwritten.

    Raises:
        StoreBusy: One does.
    """
    for stage in (Stage.PRETRAIN, Stage.TRAIN, Stage.SEARCH):
        for lock in sorted(workspace.stage_dir(stage.value).rglob("lock")):
            if is_held(lock.parent):
                raise StoreBusy(
                    f"{lock.parent} is in use",
                    expected="no training while images are withdrawn: their bytes are overwritten",
                    remedy="stop that run, withdraw, and start it again: it goes on without the images",
                )


def forget_pages(workspace: Workspace, names: Collection[str]) -> None:
    """Deletes pictures, scores and pages of these images, exams and patients; the stages that made them make them again."""
    images, exams = ({name for name in names if name[0] == kind} for kind in "IE")
    explained = workspace.stage_dir(Stage.EXPLAIN.value)
    if any(_names_in(path.name, images, exams) for path in explained.rglob("*")):
        shutil.rmtree(explained)
    _forget_tables(workspace, images)
    for stage in (Stage.REPORT.value, "scrub"):
        if _speaks_of(workspace.report_path(stage), names):
            shutil.rmtree(workspace.stage_dir(stage))
    workspace.contact_sheet_path.unlink(missing_ok=True)
    _forget_predictions(workspace, images)
    _count_again(workspace)


# ---------------------------------------------------------------------------------------------------------------------


def _names_in(text: str, images: Collection[str], exams: Collection[str]) -> bool:
    return any(text.startswith(name) for name in (*images, *exams))


def _speaks_of(path: Path, names: Collection[str]) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return any(name in text for name in names)


def _tables(folder: Path) -> Iterator[Path]:
    yield from sorted((*folder.glob("*.parquet"), *folder.glob("*.csv")))


def _forget_tables(workspace: Workspace, images: Collection[str]) -> None:
    """The tables of an evaluation that scored one of them; its measures are of all together, and stay."""
    evaluated = workspace.stage_dir(Stage.EVALUATE.value)
    scored = [path for path in evaluated.glob("*scores.parquet") if _has_any(path, images)]
    if scored:
        for path in (*_tables(evaluated), workspace.done_path(Stage.EVALUATE.value)):
            path.unlink(missing_ok=True)


def _has_any(path: Path, images: Collection[str]) -> bool:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError):
        return True  # nobody can say, and it can be made again
    return "image_id" in table and bool(table["image_id"].isin(list(images)).any())


def _forget_predictions(workspace: Workspace, images: Collection[str]) -> None:
    """Their scores and panels; those of all other images stay, so that nothing is scored twice."""
    folder = workspace.stage_dir("predict")
    for path in folder.glob("*"):
        if _names_in(path.name, images, ()):
            path.unlink()
    try:
        report = workspace.read_report("predict", PredictReport)
        table = pd.read_parquet(folder / "scores.parquet")
    except (OSError, ValueError):
        return
    left = table[~table["image_id"].isin(list(images))]
    if len(left) == len(table):
        return
    exams = {image.exam_id for image in report.images if image.image_id in images}
    (folder / "report.html").unlink(missing_ok=True)
    scores = {breast: score for breast, score in report.breast_scores.items() if breast.split()[0] not in exams}
    changes = {
        "images": tuple(image for image in report.images if image.image_id not in images),
        "panels": tuple(path for path in report.panels if not _names_in(path.name, images, ())),
        "breast_scores": scores,
        "missing": (),
        "report_path": None,
    }
    workspace.write_report("predict", report.model_copy(update=changes))
    write_atomically(folder / "scores.csv", left.to_csv(index=False, float_format="%.6f").encode())
    write_atomically(folder / "scores.parquet", left.to_parquet(index=False))  # last: it says whether something is left to do


def _count_again(workspace: Workspace) -> None:
    """Of what ingest said: how much is published now, so that the next run of a stage knows that it is of other data."""
    with suppress(OSError, ValueError):
        report = workspace.read_report(Stage.INGEST.value, IngestReport)
        manifest = read_manifest(open_store(workspace.store_dir))
        workspace.write_report(Stage.INGEST.value, report.model_copy(update=manifest_sizes(manifest)))
