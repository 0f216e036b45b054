"""What a beginning and a recipe are worth at a small site: a phantom world of two sites, the same test patients for every arm.

Site A has many patients; site B has few, drawn with another seed, another tone curve, more noise and another pixel spacing, and
is brought to A's spacing by the ingest. All arms are judged on B's held-out patients; an arm's score of a breast is the mean of
its seeds' networks. Run again, it goes on where it stopped.

    python -m benchmarks.network.two_sites OUT                                        # 600 and 90 patients, three seeds: a GPU
    python -m benchmarks.network.two_sites OUT --patients 60 40 --seeds 1 --epochs 4  # reduced, on CPUs
    python -m benchmarks.network.two_sites OUT --without-each                         # also the recipe less each ingredient
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import yaml
from prefect import Task

from flows.ingest import ingest_steps
from gmic_model.phantom.drawing import PIXEL_SPACING_MM, DrawnView, draw_view
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS
from schemas.reports.data import SplitReport
from schemas.reports.training import TrainReport
from tasks.adapters.datasets import phantom_cohort
from tasks.adapters.scoring.model_ranking import paired_difference
from tasks.adapters.scoring.score_tables import BREAST, labelled, read_breast_scores
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import training_report, training_request
from tasks.adapters.workspace import Workspace
from tasks.evaluate import evaluate_network
from tasks.split import split_patients

CONFIGS: Final = Path(__file__).parents[2] / "deployments" / "configs"
SITE_B: Final = {"spacing_mm": 0.06, "gamma": 0.7, "noise": 60.0}
"""What is different at site B: the pixels' spacing, its tone curve's exponent, the spread of its noise in stored values."""


def main() -> None:
    """Draws the two sites, trains every arm, and prints what each is worth."""
    asked = _asked()
    a, b = (_site(asked, name) for name in ("a", "b"))
    arms = dict(_arms(asked))
    scores: dict[str, list[pd.DataFrame]] = {}
    for seed in range(asked.seeds):
        trained_at_a = _trained(asked, "site-a", a, {**arms["recipe"], "seed": seed}, seed)
        scores.setdefault("site A's, zero-shot", []).append(_judged(asked, "zero-shot", b, trained_at_a, seed))
        for name, train in arms.items():
            began = {"start": {"network": trained_at_a.checkpoint_path}} if name.startswith("fine-tuned") else {}
            trained = _trained(asked, name, b, {**train, **began, "seed": seed}, seed)
            scores.setdefault(name, []).append(_judged(asked, name, b, trained, seed))
    print(_table(scores))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, nargs=2, default=(600, 90), metavar=("A", "B"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None, help="Instead of the arms' own")
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--resnet18", type=Path, default=None, help="torchvision's ResNet-18: also the arms that begin with it")
    parser.add_argument("--without-each", action="store_true", help="Also the recipe less each of its ingredients")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--only", nargs="*", default=None, help="Names of the arms at B to train")
    return parser.parse_args()


def _arms(asked: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and train section of what is trained at B; fine-tuned arms begin with A's network of the same seed."""
    common = {"device": asked.device, "tracking": {"tensorboard": False}, "keep_checkpoints": 1}
    common |= {} if asked.epochs is None else {"epochs": asked.epochs}
    plain = {**yaml.safe_load((CONFIGS / "paper.yaml").read_text())["train"], **common}
    del plain["start"]
    recipe = {**yaml.safe_load((CONFIGS / "small-cohort.yaml").read_text())["train"], **common}
    parts = {part: {"learning_rate": recipe["learning_rate"] / 4, "frozen_epochs": 1} for part in ("localization", "patches")}
    arms = {"plain": plain, "recipe": recipe, "fine-tuned": {**recipe, "parts": parts}, "fine-tuned, one rate": recipe}
    if asked.resnet18 is not None:
        begun = {"start": {"patches": asked.resnet18}}
        arms |= {"plain, ResNet-18 of a file": {**plain, **begun}, "recipe, ResNet-18 of a file": {**recipe, **begun}}
    if asked.without_each:
        arms |= {f"recipe without {name}": train for name, train in _less_one(recipe)}
    return ((name, train) for name, train in arms.items() if asked.only is None or name in ("recipe", *asked.only))


def _less_one(recipe: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("warmup_steps", "ema_decay"):
        yield name, {key: value for key, value in recipe.items() if key != name}
    for section in ("augment", "recipe"):
        for name in recipe[section]:
            yield f"{section}.{name}", {
                **recipe, section: {key: value for key, value in recipe[section].items() if key != name}
            }  # fmt: skip


def _site(asked: argparse.Namespace, name: str) -> tuple[RunConfig, SplitReport]:
    """A site's store and splits, drawn and brought in if they are not there."""
    folder = asked.out / f"site-{name}"
    cohort = folder / "cohort"
    config = RunConfig.model_validate(
        {
            "name": f"site-{name}",
            "workspace_dir": folder,
            "phantom": {
                "output_dir": cohort, "patients": asked.patients[name == "b"], "exams_per_patient": [1, 1],
                "image_size_px": [384, 288], "malignant_fraction": 0.4, "benign_fraction": 0.4,
                "difficulty": asked.difficulty, "seed": int(name == "b"),
            },
            "ingest": {
                "source_dir": cohort / "dicom", "labels_csv": cohort / "labels.csv", "masks_dir": cohort / "masks",
                "profile": "phantom", "settle_s": 0,
            },
            "preprocess": {
                "window_px": [384, 256], "erosion_iterations": 10, "crop_buffer_px": 10, "jitter_shift_px": 16,
                "jitter_size_px": 0, "pixel_spacing_mm": PIXEL_SPACING_MM,
            },
            "model": {"patch_size": [96, 96], "K": 3, "top_t": 0.05, "local_dim": 128},
            "split": {"tuning_fraction": 0.2, "test_fraction": 0.1 if name == "a" else 0.4},
            "evaluate": {"batch_images": 8},
        }
    )  # fmt: skip
    kept = folder / "splits.json"
    if kept.exists():
        return config, SplitReport.model_validate_json(kept.read_bytes())
    assert config.phantom is not None
    with _other_machine() if name == "b" else patch.object(phantom_cohort, "draw_view", draw_view):
        phantom_cohort.write_cohort(config.phantom)
    splits: SplitReport = split_patients.body(config, ingest_steps(config, submit=PlainSubmit()))
    kept.write_text(splits.model_dump_json())
    return config, splits


class PlainSubmit:
    """The steps of ingest as plain functions, one after the other: without a Prefect server."""

    def one(self, step: Task[..., Any], config: RunConfig, *records: Any) -> Any:
        """What the step returns."""
        return step.fn(config, *records)

    def each(self, step: Task[..., int], config: RunConfig, scheduler: str, batches: Iterable[Any]) -> None:
        """Batch after batch."""
        for batch in batches:
            step.fn(config, scheduler, batch)


@contextmanager
def _other_machine() -> Iterator[None]:
    """Inside, phantoms are drawn as site B's machine takes them."""
    factor = PIXEL_SPACING_MM / SITE_B["spacing_mm"]

    def taken(*what: Any) -> DrawnView:
        drawn = draw_view(*what)
        rows, columns = drawn.pixels_HW.shape
        size = (round(columns * factor), round(rows * factor))
        value_HW = np.asarray(cv2.resize(drawn.pixels_HW.astype(np.float32), size, interpolation=cv2.INTER_LINEAR))
        top = float(value_HW.max())
        rng = np.random.default_rng(int(drawn.pixels_HW.sum(dtype=np.int64)))
        noisy_HW = top * (value_HW / top) ** SITE_B["gamma"] + SITE_B["noise"] * rng.standard_normal(value_HW.shape)
        mask_HW = np.asarray(cv2.resize(drawn.lesion_mask_HW, size, interpolation=cv2.INTER_NEAREST))
        return replace(
            drawn,
            pixels_HW=np.where(value_HW > 0, noisy_HW.clip(1, 4095), 0).astype(np.uint16),
            lesion_mask_HW=mask_HW.astype(np.uint8),
        )

    with (
        patch.object(phantom_cohort, "draw_view", taken),
        patch.object(phantom_cohort, "PIXEL_SPACING_MM", SITE_B["spacing_mm"]),
    ):
        yield


def _trained(
    asked: argparse.Namespace, name: str, site: tuple[RunConfig, SplitReport], train: Mapping[str, Any], seed: int
) -> TrainReport:
    """The arm's network; what is trained already is left as it is."""
    config, splits = site
    section = type(config.train).model_validate(train)
    config = config.model_copy(update={"train": section})
    request = training_request(config, splits, None, asked.out / "arms" / f"{_slug(name)}-{seed}")

    def say(message: Mapping[str, Any]) -> None:
        if message["kind"] == "epoch":
            print(name, seed, json.dumps(message["record"])[:160], flush=True)

    run_training(request, say)
    return training_report(request)


def _judged(
    asked: argparse.Namespace, name: str, site: tuple[RunConfig, SplitReport], trained: TrainReport, seed: int
) -> pd.DataFrame:
    """Scores of site B's test breasts."""
    config, splits = site
    here = asked.out / "judged" / f"{_slug(name)}-{seed}"
    named = config.evaluate.model_copy(update={"checkpoints": (trained.checkpoint_path,)})
    config = config.model_copy(
        update={"workspace_dir": here, "store_dir": Workspace(config.workspace_dir).store_dir, "evaluate": named}
    )
    return read_breast_scores(evaluate_network.body(config, splits, None))


def _table(scores: Mapping[str, list[pd.DataFrame]]) -> str:
    """AUROC of each arm's mean score, and its paired difference to plain training from nothing and to zero-shot."""
    means = {name: _mean(tables) for name, tables in scores.items()}
    lines = ["| arm | finding | AUROC by seed | less plain | less zero-shot |", "|---|---|---|---|---|"]
    for name, table in means.items():
        for finding in FINDINGS:
            seeds = ", ".join(f"{_auroc(one, finding.value):.3f}" for one in scores[name])
            differences = [_difference(table, means.get(other), finding.value) for other in ("plain", "site A's, zero-shot")]
            lines.append(f"| {name} | {finding.value} | {seeds} | {' | '.join(differences)} |")
    return "\n".join(lines)


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    columns = [f"{finding.value}_score" for finding in FINDINGS]
    kept = [name for name in BREAST if name in tables[0]]
    mean = pd.concat(tables).groupby(kept, sort=True)[columns].mean().reset_index()
    return mean.merge(tables[0].drop(columns=columns), on=kept)


def _auroc(table: pd.DataFrame, finding: str) -> float:
    known = labelled(table, next(one for one in FINDINGS if one.value == finding), BREAST)
    positive, negative = (known.loc[known["label"] == label, "score"].to_numpy() for label in (1, 0))
    if not len(positive) or not len(negative):
        return float("nan")
    return float(np.mean(np.sign(positive[:, None] - negative[None]) / 2 + 0.5))


def _difference(table: pd.DataFrame, other: pd.DataFrame | None, finding: str) -> str:
    if other is None:
        return "-"
    one = next(each for each in FINDINGS if each.value == finding)
    both = [name for name in BREAST if name in table and name in other]
    paired = labelled(table, one, BREAST).merge(other[[*both, f"{finding}_score"]], on=both)
    found = paired_difference(paired, paired.assign(score=paired[f"{finding}_score"]), 0.95)
    return "no interval" if found is None else f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


if __name__ == "__main__":
    main()
