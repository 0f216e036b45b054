"""Curves of a training, epoch by epoch: the loss, and AUROC on the tuning split; and how sure the choice of an epoch is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gmic_model.metrics.areas import standard_error
from schemas.config.recipe import RecipeConfig
from schemas.exam import Finding
from schemas.reports.training import EpochRecord
from tasks.adapters.pages.charts.frame import Chart, Frame


def loss_chart(epochs: Sequence[EpochRecord], best_epoch: int) -> Chart:
    """Training loss by epoch."""
    losses = [record.train_loss for record in epochs]
    y_ticks = nice_ticks(min(losses, default=0.0), max(losses, default=1.0))
    frame = Frame(width=452.0, height=300.0, x_limits=_epoch_limits(epochs), y_limits=(y_ticks[0], y_ticks[-1]))
    change = f"from {losses[0]:.3g} in the first epoch to {losses[-1]:.3g} in the last" if losses else "no epoch was trained"
    return frame.chart(
        chart_id="loss",
        title="Training loss",
        description=f"Mean training loss by epoch: {change}.",
        x_title="Epoch",
        y_title="Training loss",
        series=[
            frame.series(
                "loss",
                [record.epoch for record in epochs],
                losses,
                text="training loss",
                is_dotted=True,
                tell=lambda place: f"epoch {epochs[place].epoch}: training loss {losses[place]:.4g}",
            )
        ],
        x_values=_epoch_ticks(epochs),
        y_values=y_ticks,
        marker=(best_epoch, f"best epoch {best_epoch}"),
    )


def tuning_chart(epochs: Sequence[EpochRecord], best_epoch: int) -> Chart:
    """AUROC on the tuning split by epoch, for both findings."""
    by_finding = {
        Finding.MALIGNANT: [record.tuning_malignant_auroc for record in epochs],
        Finding.BENIGN: [record.tuning_benign_auroc for record in epochs],
    }
    known = [value for values in by_finding.values() for value in values if value is not None]
    floor = min(0.4, np.floor(min(known, default=0.4) * 10.0) / 10.0)
    ticks = tuple(float(tick) for tick in np.linspace(floor, 1.0, 1 + round((1.0 - floor) / (0.1 if floor >= 0.4 else 0.2))))
    frame = Frame(width=452.0, height=300.0, x_limits=_epoch_limits(epochs), y_limits=(floor, 1.0))
    numbers = [record.epoch for record in epochs]
    sentences = [
        f"{finding.capitalize()}: best {max(found):.3f}."
        if (found := [v for v in values if v is not None])
        else f"{finding.capitalize()}: not defined, one class only."
        for finding, values in by_finding.items()
    ]
    return frame.chart(
        chart_id="tuning",
        title="AUROC on the tuning split",
        description="AUROC by epoch. " + " ".join(sentences),
        x_title="Epoch",
        y_title="Tuning AUROC",
        series=[
            frame.series(finding, numbers, values, is_dotted=True, tell=epoch_reading(finding, numbers, values))
            for finding, values in by_finding.items()
        ],
        guides=((frame.points(frame.x_limits, [0.5, 0.5]), "chance"),),
        x_values=_epoch_ticks(epochs),
        y_values=ticks,
        marker=(best_epoch, f"best epoch {best_epoch}"),
    )


def kept_for(recipe: RecipeConfig) -> str:
    """What made an epoch the best one, in words."""
    by = (
        "the lowest cross-entropy on the tuning split"
        if recipe.best_by == "loss"
        else "best malignant AUROC on the tuning split"
    )
    return by if recipe.best_of_epochs == 1 else f"{by}, as the mean of {recipe.best_of_epochs} epochs"


def choice_note(epochs: Sequence[EpochRecord], best_epoch: int, *, malignant: int, others: int) -> str:
    """How sure it is that the kept epoch is the best: its tuning AUROC's standard error, and how many epochs lie within it.

    The error is taken with one malignant breast more, that scores as any other: an AUROC of 1 over a handful would have none.

    Args:
        epochs: The curve.
        best_epoch: The one whose weights were kept.
        malignant: Tuning breasts with a malignant finding.
        others: Tuning breasts without.
    """
    aurocs = {record.epoch: record.tuning_malignant_auroc for record in epochs if record.tuning_malignant_auroc is not None}
    if best_epoch not in aurocs or not malignant or not others:
        return "No tuning AUROC is defined, so nothing says that another epoch would not have been better."
    kept = aurocs[best_epoch]
    error = standard_error((kept * malignant + 0.5) / (malignant + 1), malignant, others)
    near = sum(auroc >= kept - error for auroc in aurocs.values())
    sure = (
        "which of them was kept is partly luck, and the kept one's AUROC on tuning is too good"
        if near > 1
        else "no other epoch comes near"
    )
    breasts = "breast" if malignant == 1 else "breasts"
    counted = f"{near} of {len(aurocs)} epochs {'lies' if near == 1 else 'lie'} within it: {sure}"
    return (
        f"Its tuning AUROC, {kept:.3f} over {malignant} malignant {breasts}, has a standard error of about {error:.3f}; "
        f"{counted if len(aurocs) > 1 else 'there was no other epoch'}."
    )


def _epoch_limits(epochs: Sequence[EpochRecord]) -> tuple[float, float]:
    numbers = [record.epoch for record in epochs] or [0]
    first, last = min(numbers), max(numbers)
    return (first - 0.5, last + 0.5) if first == last else (float(first), float(last))


def _epoch_ticks(epochs: Sequence[EpochRecord]) -> list[float]:
    numbers = sorted(record.epoch for record in epochs)
    step = max(1, -(-len(numbers) // 10))
    return [float(number) for number in numbers[::step]]


def nice_ticks(low: float, high: float) -> tuple[float, ...]:
    """Four to eight round numbers that enclose the values."""
    span = high - low if high > low else max(abs(high), 1.0)
    raw = span / 5.0
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(power * next(factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= raw * 0.999))
    first, last = np.floor(low / step), np.ceil(high / step)
    return tuple(float(index * step) for index in np.arange(first, max(last, first + 1) + 1))


def epoch_reading(finding: Finding, numbers: Sequence[int], values: Sequence[float | None]) -> Callable[[int], str]:
    """The metric of an epoch."""
    return lambda place: f"epoch {numbers[place]}: {finding} AUROC {values[place]:.3f}"
