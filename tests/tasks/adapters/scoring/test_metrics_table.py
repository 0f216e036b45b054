"""Numbers in words: what people decide by is not rounded onto the limit that they ask for, and no p-value is 0."""

from __future__ import annotations

from schemas.reports.evaluation import AurocDifference
from tasks.adapters.scoring.metrics_table import apart, difference_text, p_text


def test_no_p_value_is_nothing_or_rounded_onto_five_per_cent() -> None:
    """DeLong's p is 0 where no breast varies; 0.0496 and 0.0504 lie on either side of 0.05, and 0.05 is itself."""
    assert [p_text(p) for p in (0.0, 1e-5, 0.012, 0.37, 1.0)] == ["< 0.0001", "< 0.0001", "0.012", "0.37", "1"]
    assert [p_text(p) for p in (0.0496, 0.0504, 0.05)] == ["0.0496", "0.0504", "0.05"]
    assert [p_text(p, ".4f") for p in (1e-6, 0.0123, 0.04996, 0.05)] == ["< 0.0001", "0.0123", "0.04996", "0.0500"]
    assert [p_text(p, least=0.0) for p in (2.1e-8, 0.0496, 0.0)] == ["2.1e-08", "0.0496", "< 1e-300"]
    found = [AurocDifference(difference=0.5, low=0.1, high=0.9, p_value=p) for p in (0.0, 0.0496)]
    assert [difference_text(one) for one in found] == [
        "+0.500 (+0.100 to +0.900), p < 0.0001",
        "+0.500 (+0.100 to +0.900), p = 0.0496",
    ]


def test_an_end_beside_a_limit_is_seen_to_lie_beside_it() -> None:
    """At one digit -4.98 is -5.0 and 0.02 is +0.0: as many digits are told as it takes; a limit itself stays short."""
    assert [apart(end, (0.0, -5.0), "+.1f") for end in (-4.98, -5.02, 0.02, -0.003)] == ["-4.98", "-5.02", "+0.02", "-0.003"]
    assert [apart(end, (0.0, -5.0), "+.1f") for end in (-5.0, 0.0, -5.0 + 1e-12, 1.26)] == ["-5.0", "+0.0", "-5.0", "+1.3"]
