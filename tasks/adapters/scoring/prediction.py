"""A prediction in numbers: what was scored before, the table of images, and the scores of images and breasts in its report."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.calibration import Recalibration, recalibrated
from gmic_model.metrics.ranking import breast_scores
from gmic_model.networks.registry import config_of
from gmic_model.preprocess import preprocess_version
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS, Finding
from schemas.layout import SEEN_ENOUGH, VIEWS_PER_EXAM
from schemas.reports.pages import ImageScore
from tasks.adapters.models.locking import kept_recalibrations
from tasks.adapters.models.whole_models import WholeModel
from tasks.adapters.scoring.score_tables import IMAGE_COLUMNS, SCORE_COLUMNS, traced
from tasks.adapters.store.manifest import lines_of
from tasks.adapters.store.views import cut_views, missing_views
from tasks.adapters.workspace import replaced, write_atomically

_SEEN: Final = "breast_seen_fraction"
REPORTED_IMAGES: Final = 10_000
"""Named one by one in report and page; all others stand in the table of scores."""
PART_IMAGES: Final = 500
"""Of one file of scores that a run writes before it ends, at most."""
PART_S: Final = 30.0
"""After which it is written with fewer images: what a kill may cost."""
TABLE_ASKED: Final = frozenset({*IMAGE_COLUMNS, _SEEN})
"""What ``score_table`` asks of a manifest's lines."""
_NAMED_BY: Final = ("image_id", "laterality", "view_position")
_MOST_SENTENCES: Final = 1_000
_TABLE: Final = "scores.parquet"
_PARTS: Final = "parts"


def scored_with(weights_sha256: str, config: RunConfig) -> str:
    """Names what scores follow from: weights, preprocessing, and a precision that is not the default."""
    precision = "" if config.evaluate.precision == "fp32" else f" {config.evaluate.precision}"
    return f"{weights_sha256} {preprocess_version(config.preprocess)}{precision}"


def begin_scores(folder: Path, weights: str) -> None:
    """Forgets what other weights left, before their pictures are drawn over: a run that is broken off leaves no mixture."""
    path = folder / "weights"
    with suppress(OSError):
        if path.read_text() == weights:
            return
    path.unlink(missing_ok=True)
    for left in (folder / _TABLE, *_parts(folder)):
        left.unlink(missing_ok=True)
    write_atomically(path, weights.encode())


def scored_before(folder: Path, manifest: pd.DataFrame, *, with_panels: bool) -> pd.DataFrame:
    """Row and scores of the images that these weights have scored, that are still in the store, and that need no drawing.

    A row is given out once (``inbox.ledger``): the same row is the same image. ``is_entered`` says whether a run that ended has
    them in its table; the others are of one that was broken off. A table or a part that is damaged is scored again.

    Args:
        folder: Where, after ``begin_scores``.
        manifest: What is published.
        with_panels: An image without its panel is scored again.
    """
    tables = [_read(folder / _TABLE).assign(is_entered=True)]
    tables += [_read(path).assign(is_entered=False) for path in _parts(folder)]
    known = pd.concat(tables, ignore_index=True).drop_duplicates("row").astype({"row": "int64", "is_entered": "bool"})
    known = known[known["row"].isin(manifest["row"])]
    if with_panels:
        drawn = frozenset(path.name for path in folder.glob("*.png"))
        panels = panels_of(folder, manifest[["row", *_NAMED_BY]].set_index("row").loc[known["row"]])
        known = known[np.array([path.name in drawn for path in panels], dtype=bool)]
    return known.reset_index(drop=True)


def panel_path(folder: Path, image_id: str, laterality: str, view_position: str) -> Path:
    """The panel of an image; its arrays lie beside it under the same name."""
    return folder / f"{image_id}-{laterality}-{view_position}.png"


def panels_of(folder: Path, images: pd.DataFrame) -> tuple[Path, ...]:
    """Those of a table's images, in its order."""
    lines = images[list(_NAMED_BY)].itertuples(index=False, name=None)
    return tuple(panel_path(folder, *line) for line in lines)


class ScoreParts:
    """Writes scores as they are made, some images at a time: a process that is killed loses those of one part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _PARTS
        self._next = 1 + max((int(path.stem) for path in _parts(folder)), default=-1)

    def add(self, scored: Sequence[tuple[Mapping[str, Any], NDArray[np.float64]]]) -> None:
        """One part: lines of the manifest with their images' scores.

        Raises:
            OSError: The disk refuses.
        """
        score_NC = np.array([score_C for _, score_C in scored], np.float64).reshape(-1, len(FINDINGS))
        table = pd.DataFrame(score_NC, columns=list(SCORE_COLUMNS))
        for name in ("row", "image_id"):
            table[name] = [line[name] for line, _ in scored]
        write_atomically(self._folder / f"{self._next:06d}.parquet", table.to_parquet(index=False))
        self._next += 1


def forget_in_parts(folder: Path, image_ids: Collection[str]) -> None:
    """Takes images out of what a run that was broken off left."""
    for path in _parts(folder):
        table = _read(path, "image_id")
        if table["image_id"].isin(list(image_ids)).any():
            write_atomically(path, table[~table["image_id"].isin(list(image_ids))].to_parquet(index=False))


def score_table(manifest: pd.DataFrame, kept: pd.DataFrame, *, sha256: str, data_version: str) -> pd.DataFrame:
    """The images of ``scored_before``; labels, warnings and what was seen are the manifest's of today."""
    line_N = pd.Index(manifest["row"]).get_indexer(kept["row"])
    table = manifest[list(IMAGE_COLUMNS)].iloc[line_N].reset_index(drop=True)
    table = table.assign(**{name: kept[name].to_numpy(np.float64) for name in SCORE_COLUMNS})
    table = traced(table, model="model", sha256=sha256, data_version=data_version)
    return table.assign(breast_seen_fraction=manifest[_SEEN].to_numpy(np.float64)[line_N])


def write_scores(folder: Path, table: pd.DataFrame) -> Path:
    """Leaves the table for people and for the next run, which asks ``scored_before``; returns the one for people."""
    with replaced(folder / _TABLE) as file:
        table.to_parquet(file, index=False)
    with replaced(folder / "scores.csv") as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        table.to_csv(text, index=False, float_format="%.6f")
        text.detach()  # which writes what is left, and leaves the file open
    for part in _parts(folder):
        part.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / _PARTS).rmdir()
    return folder / "scores.csv"


def reported(table: pd.DataFrame) -> pd.DataFrame:
    """The images that report and page name one by one: the last ones, with all images of their exams."""
    if len(table) <= REPORTED_IMAGES:
        return table
    return table[table["exam_id"].isin(table["exam_id"].tail(REPORTED_IMAGES))]


def numbers_of(table: pd.DataFrame, kept: Mapping[str, Recalibration], *, panels_in: Path | None) -> dict[str, Any]:
    """Fields of the report: every image is counted, the last ones are named.

    Args:
        table: All that is scored.
        kept: The recalibration of each finding that has one.
        panels_in: Where their panels lie; None = there are none.
    """
    shown = reported(table)
    return {
        "images": image_scores(shown),
        "images_scored": len(table),
        "breast_scores": mean_breast_scores(shown, kept),
        "panels": () if panels_in is None else panels_of(panels_in, shown),
    }


def what_is_missing(manifest: pd.DataFrame, not_fetched: str = "") -> tuple[str, ...]:
    """A sentence for each exam that lacks views and each image whose breast is cut; of very many, how many more there are.

    Args:
        manifest: With ``breast_seen_fraction`` of each image.
        not_fetched: Why exams of the source did not come; empty = none is missing there.
    """
    left = (f"Exams may be missing that ingest.source has: {not_fetched.rstrip('.')}.",) if not_fetched else ()
    view = ["exam_id", "laterality", "view_position"]
    views = manifest.loc[~manifest.duplicated(view), "exam_id"].value_counts()
    few = manifest.loc[manifest["exam_id"].isin(views.index[views < VIEWS_PER_EXAM]), view]
    is_cut = ~(manifest[_SEEN] >= SEEN_ENOUGH)
    sentences = (*missing_views(lines_of(few)), *cut_views(lines_of(manifest.loc[is_cut, [*view, _SEEN]])))
    if len(sentences) <= _MOST_SENTENCES:
        return (*left, *sentences)
    return (
        *left,
        *sentences[:_MOST_SENTENCES],
        f"{len(sentences) - _MOST_SENTENCES:,} more exams lack views, or images are cut.",
    )


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / _PARTS).glob("*.parquet"))


def _read(path: Path, *more: str) -> pd.DataFrame:
    columns = ["row", *SCORE_COLUMNS, *more]
    try:
        return pd.read_parquet(path)[columns]
    except (OSError, ValueError, KeyError):
        return pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})


def image_scores(table: pd.DataFrame) -> tuple[ImageScore, ...]:
    """As the report has them."""
    return tuple(
        ImageScore(
            image_id=line["image_id"],
            exam_id=line["exam_id"],
            laterality=line["laterality"],
            view_position=line["view_position"],
            scores={finding.value: line[f"{finding.value}_score"] for finding in FINDINGS},
            gate_warnings=line["gate_warnings"],
            breast_seen=None if np.isnan(line[_SEEN]) else line[_SEEN],
        )
        for line in lines_of(table)
    )


def kept_recalibration(model: WholeModel, prevalences: Mapping[Finding, float]) -> dict[str, Recalibration]:
    """What was fitted to these very weights, of each finding that has it, moved to a share of findings that is stated."""
    return kept_recalibrations(model.folder, model.sha256, prevalences)


def mean_breast_scores(table: pd.DataFrame, kept: Mapping[str, Recalibration]) -> dict[str, dict[str, float]]:
    """Of each breast the mean of its views, after the recalibration of each finding that has one."""
    names = [f"{finding.value}_score" for finding in FINDINGS]
    breasts = breast_scores(
        table[names].to_numpy(np.float64), table["exam_id"].to_numpy(str), table["laterality"].to_numpy(str)
    )
    score_BC = np.stack(
        [
            recalibrated(breasts.score_BC[:, index], *kept[finding.value])
            if finding.value in kept
            else breasts.score_BC[:, index]
            for index, finding in enumerate(FINDINGS)
        ],
        axis=1,
    )
    return {
        f"{exam_id} {side}": {finding.value: float(score) for finding, score in zip(FINDINGS, score_C, strict=True)}
        for exam_id, side, score_C in zip(breasts.exam_id_B, breasts.laterality_B, score_BC, strict=True)
    }


def window_note(model: WholeModel, window_px: tuple[int, int]) -> str:
    """What is to be said where images have another size than those that the network was trained on; else nothing."""
    trained_px = config_of(model.network).image_size
    if trained_px == window_px:
        return ""
    return (
        f"Images have {window_px[0]} x {window_px[1]} pixels (preprocess.window_px), and the network was trained on "
        f"{trained_px[0]} x {trained_px[1]}: whatever it was judged by says nothing of these scores."
    )


def weights_note(model: WholeModel, kept: Mapping[str, Recalibration], prevalences: Mapping[Finding, float]) -> str:
    """Whose scores these are, for the page, and what the terms forbid of the data that they were learnt from."""
    note = [f"Weights {model.sha256[:12]} of {model.folder.name}."]
    if model.networks > 1:
        note.append(f"Scores are the mean of {model.networks} networks; maps and patches are of the first.")
    if kept:
        said = ", ".join(f"{finding} intercept {line.intercept:.2f}, slope {line.slope:.2f}" for finding, line in kept.items())
        note.append(f"Breast scores are recalibrated: {said}.")
    if kept and prevalences:
        shares = ", ".join(f"{finding.value} {share:.4g}" for finding, share in prevalences.items())
        note.append(f"Moved to the stated share of findings: {shares}.")
    return " ".join([*note, *model.terms])
