"""The text that Prometheus reads, against its own client's parser."""

from __future__ import annotations

import pytest

from deployments.server.metrics_text import Metric, metrics_text

parser = pytest.importorskip("prometheus_client.parser")


def test_what_is_written_is_what_prometheus_reads() -> None:
    """Names, kinds, values to the last bit and labels with a quote, a backslash and a line's end; an empty one is left out."""
    odd = 'a "quoted" \\ name\nof two lines'
    queue = Metric(name="mammo_queue", kind="gauge", about="Runs \\ that\nwait")
    queue.add(0.1 + 0.2, flow=odd)
    score = Metric(name="mammo_score", kind="histogram", about="Scores")
    for bound, count in (("0.5", 2), ("+Inf", 3)):
        score.add(count, "_bucket", le=bound)
    score.add(1.25, "_sum")
    score.add(3, "_count")
    total = Metric(name="mammo_seen_total", kind="counter", about="Seen")
    total.add(7)
    text = metrics_text([queue, Metric(name="mammo_none", kind="gauge", about="Nothing"), score, total])
    found = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert sorted(found) == ["mammo_queue", "mammo_score", "mammo_seen"]
    (sample,) = found["mammo_queue"].samples
    assert (sample.labels, sample.value, found["mammo_queue"].type) == ({"flow": odd}, 0.1 + 0.2, "gauge")
    assert [(one.name, one.value) for one in found["mammo_score"].samples] == [
        ("mammo_score_bucket", 2.0), ("mammo_score_bucket", 3.0), ("mammo_score_sum", 1.25), ("mammo_score_count", 3.0),
    ]  # fmt: skip
    assert found["mammo_seen"].samples[0].value == 7.0
