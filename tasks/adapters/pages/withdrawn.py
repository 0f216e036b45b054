"""Carrying withdrawals out to the end: the store, and then the pictures, tables and pages that were made of it.

Everything that is deleted here can be made again from what is left. Kept are the splits, which cannot, and weights: what a
network has learnt stays in it, and whether it may is for people to say (docs/how-to/when-a-wrong-image-was-published.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

import pandas as pd

from schemas.config.run import Stage
from schemas.errors import StoreBusy
from schemas.reports.data import IngestReport
from schemas.reports.pages import PredictReport
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.publication import manifest_sizes
from tasks.adapters.inbox.store_ledger import StoreLedger, adopted
from tasks.adapters.inbox.withdrawals.removal import pending, take_out, unheard
from tasks.adapters.inbox.withdrawals.withdrawal import names_of_line
from tasks.adapters.lock import is_held, without_readers
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.parts import is_unmade
from tasks.adapters.workspace import REPORT_FILE, Workspace, write_atomically

_NAME_LETTERS: Final = 25
"""Of a pseudonym: its kind and 24 hex digits."""


def finish_withdrawals(workspace: Workspace, *, is_read: bool = True) -> tuple[tuple[LedgerLine, ...], ...]:
    """Carries out what the log of withdrawals says and has not taken effect yet; mostly that is nothing.

    Call under the store's lock, before anything is read from it. Returns the images that each of them took out of the store.

    Args:
        workspace: Where.
        is_read: Somebody may be reading; False = the caller holds readers off.

    Raises:
        StoreBusy: Somebody reads the workspace, and would write down again what is taken out.
        StoreError: A part of the store or the log is gone or damaged.
        OSError: The disk refuses; the next call goes on.
    """
    if is_unmade(workspace.store):
        return ()
    store = adopted(open_store(workspace.store_dir))
    with StoreLedger(store) as ledger:
        gone_elsewhere = unheard(store.files, ledger)
        left = pending(store.files, ledger)
        if gone_elsewhere:
            with without_readers(workspace.root, purpose="withdraw") if is_read else nullcontext():
                forget_pages(workspace, gone_elsewhere)
        if not left:
            return ()
        names = frozenset(name for withdrawal in left for name in withdrawal.names)
        with without_readers(workspace.root, purpose="withdraw") if is_read else nullcontext():
            taken = take_out(store, ledger, names)
            forget_pages(workspace, taken.image_ids | names)
        ledger.enter_withdrawals((withdrawal.line, withdrawal.names) for withdrawal in left)
    return tuple(
        tuple(line for line in taken.lines if not names_of_line(line).isdisjoint(withdrawal.names)) for withdrawal in left
    )


def require_nobody_reads(workspace: Workspace) -> None:
    """Refuses while a training or search goes on: it reads rows, or splits and weights, that are to be overwritten.

    Raises:
        StoreBusy: One does.
    """
    for place in (workspace, *workspace.below()):
        for stage in (Stage.PRETRAIN, Stage.TRAIN, Stage.SEARCH):
            for lock in sorted(place.stage_dir(stage.value).rglob("lock")):
                if is_held(lock.parent):
                    raise StoreBusy(
                        f"{lock.parent} is in use",
                        expected="no training while images are withdrawn or a backup is restored: what it reads is overwritten",
                        remedy="let that run end, or stop it",
                    )


def forget_pages(workspace: Workspace, names: Collection[str]) -> None:
    """Deletes pictures, scores and pages of these images, exams and patients; the stages that made them make them again."""
    images, exams = ({name for name in names if name[0] == kind} for kind in "IE")
    explained = workspace.stage_dir(Stage.EXPLAIN.value)
    if any(_is_of(path, images | exams) for path in explained.rglob("*")):
        shutil.rmtree(explained)
    _forget_scores(workspace, images, exams)
    accepted = workspace.stage_dir("accept")
    said, of_images = accepted / REPORT_FILE, accepted / "scores.csv"
    is_whole = said.exists() and of_images.exists()  # one that was broken off may have any of its tables
    if accepted.exists() and (not is_whole or _speaks_of(of_images, names)):
        shutil.rmtree(accepted)
    for stage in (Stage.REPORT.value, "scrub"):
        if _speaks_of(workspace.report_path(stage), names):
            shutil.rmtree(workspace.stage_dir(stage))
    workspace.contact_sheet_path.unlink(missing_ok=True)
    _forget_predictions(workspace, images)
    _count_again(workspace)
    for below in workspace.below():
        forget_pages(below, names)


# ---------------------------------------------------------------------------------------------------------------------


def _is_of(path: Path, names: Collection[str]) -> bool:
    """True if a picture or page is of one of these: it is called so."""
    return path.name[:_NAME_LETTERS] in names


def _speaks_of(path: Path, names: Collection[str]) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except ValueError:  # damaged: nobody can say of whom it is, and it can be made again
        return True
    return any(name in text for name in names)


def _forget_scores(workspace: Workspace, images: Collection[str], exams: Collection[str]) -> None:
    """Their lines of an evaluation's tables; its measures are of all together, and stay until it is made again.

    A breast's and an exam's score is the mean of its views, so those go with any of its images.
    """
    evaluated = workspace.stage_dir(Stage.EVALUATE.value)
    kept = workspace.kept_evaluations_dir.glob("*.parquet")
    tables = {path: _table(path) for path in (*evaluated.glob("*.parquet"), *kept)}
    of_exams = set(exams)
    for table in tables.values():
        if {"image_id", "exam_id"} <= set(table.columns):
            of_exams.update(table.loc[table["image_id"].isin(list(images)), "exam_id"])
    # Tables of images last: they say which exams are meant, if this is stopped.
    for path, table in sorted(tables.items(), key=lambda entry: ("image_id" in entry[1], entry[0])):
        name, gone = ("image_id", images) if "image_id" in table else ("exam_id", of_exams)
        left = table[~table[name].isin(list(gone))] if name in table else table.iloc[:0]
        if len(left) < len(table):
            if path.parent == evaluated:
                workspace.done_path(Stage.EVALUATE.value).unlink(missing_ok=True)
                write_atomically(path.with_suffix(".csv"), left.to_csv(index=False, float_format="%.6f").encode())
            write_atomically(path, left.to_parquet(index=False))


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):  # nobody can say of whom it is, and it can be made again
        path.unlink(missing_ok=True)
        path.with_suffix(".csv").unlink(missing_ok=True)
        return pd.DataFrame()


def _forget_predictions(workspace: Workspace, images: Collection[str]) -> None:
    """Their scores and panels; those of all other images stay, so that nothing is scored twice."""
    from tasks.adapters.scoring.prediction import forget_in_parts  # late: it brings torch, and mostly nothing was withdrawn

    folder = workspace.stage_dir("predict")
    for path in folder.glob("*"):
        if _is_of(path, images):
            path.unlink()
    forget_in_parts(folder, images)
    try:
        report = workspace.read_report("predict", PredictReport)
        table = pd.read_parquet(folder / "scores.parquet")
    except (OSError, ValueError):
        _forget_broken_off(folder, images)
        return
    left = table[~table["image_id"].isin(list(images))]
    if len(left) == len(table):
        return
    exams = {image.exam_id for image in report.images if image.image_id in images}
    (folder / "report.html").unlink(missing_ok=True)
    scores = {breast: score for breast, score in report.breast_scores.items() if breast.split()[0] not in exams}
    changes = {
        "images_scored": report.images_scored and len(left),
        "images": tuple(image for image in report.images if image.image_id not in images),
        "panels": tuple(path for path in report.panels if not _is_of(path, images)),
        "breast_scores": scores,
        "missing": (),
        "report_path": None,
    }
    workspace.write_report("predict", report.model_copy(update=changes))
    write_atomically(folder / "scores.csv", left.to_csv(index=False, float_format="%.6f").encode())
    write_atomically(folder / "scores.parquet", left.to_parquet(index=False))  # last: it says whether something is left to do


def _forget_broken_off(folder: Path, images: Collection[str]) -> None:
    """What a prediction that did not end left, or one before it: the next one writes page, report and table for people anew."""
    (folder / "report.html").unlink(missing_ok=True)
    for path in (folder / REPORT_FILE, folder / "scores.csv"):
        if _speaks_of(path, images):
            path.unlink()
    path = folder / "scores.parquet"
    table = _table(path)
    if "image_id" in table and table["image_id"].isin(list(images)).any():
        write_atomically(path, table[~table["image_id"].isin(list(images))].to_parquet(index=False))


def _count_again(workspace: Workspace) -> None:
    """Of what ingest said: how much is published now, so that the next run of a stage knows that it is of other data."""
    with suppress(OSError, ValueError):
        report = workspace.read_report(Stage.INGEST.value, IngestReport)
        manifest = read_manifest(open_store(workspace.store_dir))
        workspace.write_report(Stage.INGEST.value, report.model_copy(update=manifest_sizes(manifest)))
