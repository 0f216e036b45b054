"""Metrics as Prometheus reads them: the text exposition format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One name with its values.

    Attributes:
        samples: Labels, value, and what is put behind the name: a histogram's ``_bucket``, ``_sum`` and ``_count``.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    about: str
    samples: list[tuple[Mapping[str, str], float, str]] = field(default_factory=list)

    def add(self, value: float, suffix: str = "", **labels: str) -> None:
        """Another value."""
        self.samples.append((labels, value, suffix))


def metrics_text(metrics: Iterable[Metric]) -> str:
    """All of them; a name without a value is left out."""
    lines = []
    for metric in metrics:
        if metric.samples:
            lines += [f"# HELP {metric.name} {_escaped(metric.about)}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [_line(f"{metric.name}{suffix}", labels, value) for labels, value, suffix in metric.samples]
    return "\n".join([*lines, ""])


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value!r}" if inside else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
