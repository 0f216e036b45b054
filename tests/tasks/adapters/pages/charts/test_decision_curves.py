"""The decision curve of a network that recalls nobody at any risk."""

from __future__ import annotations

import numpy as np

from gmic_model.metrics.clinic.net_benefit import net_benefits
from schemas.reports.clinic import DecisionCurve
from tasks.adapters.pages.charts.decision_curves import decision_chart


def test_a_network_that_recalls_nobody_is_drawn_at_nothing() -> None:
    """Too few patients for intervals, and every risk below the lowest threshold: a line of zeros, and the page is made."""
    points = net_benefits(
        np.full(20, 0.001), np.repeat([1, 0], [3, 17]), np.arange(20), (0.01, 0.02, 0.05), prevalence=0.005, confidence=0.95
    )
    assert [(one.network.value, one.network.low) for one in points] == [(0.0, None)] * 3
    chart = decision_chart("malignant", DecisionCurve(prevalence=0.005, is_stated=True, basis="", points=points))
    assert chart is not None and chart.description.startswith("At none of these risks")
    _, line = chart.series
    (zero,) = [tick.position for tick in chart.y_ticks if tick.text == "0"]
    assert {y for _, y in line.dots} == {zero} and chart.top < zero < chart.bottom
