"""The control chart of scores: how seldom it is wrong, and how soon it tells."""

from __future__ import annotations

import numpy as np

from gmic_model.metrics.clinic.control_chart import BASELINE, DECISION, first_alarm, normal_scores, rate_chart


def test_quiet_streams_raise_no_alarm() -> None:
    """100 streams of 5,000 exams after the baseline, of skew scores such as a screening's: at most five alarms."""
    rng = np.random.default_rng(0)
    alarms = [first_alarm(rng.beta(1.2, 9.0, BASELINE + 5000)) for _ in range(100)]
    assert sum(alarm is not None for alarm in alarms) <= 5


def test_a_change_is_told_within_200_exams() -> None:
    """100 streams whose scores move by half a standard deviation after 500 quiet exams: 95 are told in time, with their way.

    Those that lie above tell it as an upward change, and the estimate of its beginning lies near.
    """
    rng = np.random.default_rng(1)
    in_time = 0
    for stream in range(100):
        sign = 1 if stream % 2 else -1
        logit_E = rng.normal(size=BASELINE + 900) - 2.0
        logit_E[BASELINE + 500 :] += sign * 0.5
        alarm = first_alarm(1.0 / (1.0 + np.exp(-logit_E)))
        if alarm is not None and 0 <= alarm.exam - (BASELINE + 500) < 200 and alarm.is_upward == (sign > 0):
            in_time += 1
            assert alarm.shift * sign > 0.25 and alarm.began <= alarm.exam
    assert in_time >= 95


def test_the_sum_is_page_s() -> None:
    """Against the recursion as it is printed: S = max(0, S + z - k), an alarm where it first passes h."""
    rng = np.random.default_rng(2)
    value_E = np.concatenate([rng.normal(size=300), rng.normal(size=400) + 0.8])
    normal_E = normal_scores(value_E[200:], value_E[:200])
    total, began = 0.0, 0
    for index, normal in enumerate(normal_E):
        if total == 0.0:
            began = index
        total = max(0.0, total + normal - 0.25)
        if total > DECISION:
            break
    alarm = first_alarm(value_E, baseline=200)
    assert alarm is not None and (alarm.exam, alarm.began) == (200 + index, 200 + began)
    assert first_alarm(value_E[:200], baseline=200) is None


def test_normal_scores_are_quantiles_of_ranks() -> None:
    """The middle of the baseline is 0; what lies beyond all of it is the outermost quantile and not infinite."""
    scores = normal_scores(np.array([2.0, 99.0, -99.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert scores[0] == scores[3] == 0.0 and scores[1] == -scores[2] and np.isfinite(scores).all()


def test_a_rate_that_triples_is_told_and_a_quiet_one_is_not() -> None:
    """Recalls of one exam in ten, 100 streams of 5,000: at most five alarms; from 30 in 100 on 95 of 100 are told within 200.

    Of half as many exams the way down is told, too.
    """
    rng = np.random.default_rng(3)
    quiet = [rate_chart(rng.random(BASELINE + 5000) < 0.1) for _ in range(100)]
    assert sum(chart is not None and chart.alarm is not None for chart in quiet) <= 5
    in_time = 0
    for _ in range(100):
        chart = rate_chart(np.concatenate([rng.random(BASELINE + 300) < 0.1, rng.random(200) < 0.3]))
        assert chart is not None and chart.up_E.shape == chart.down_E.shape == (500,)
        in_time += chart.alarm is not None and chart.alarm.exam >= BASELINE + 300 and chart.alarm.is_upward
    assert in_time >= 95
    gone = rate_chart(np.concatenate([rng.random(BASELINE) < 0.1, np.zeros(600)]))
    assert gone is not None and gone.alarm is not None and not gone.alarm.is_upward and -0.15 < gone.alarm.shift < -0.05
    assert rate_chart(np.zeros(BASELINE)) is None


def test_a_rate_s_sum_is_of_likelihood_ratios() -> None:
    """Nothing happened in 99 exams: the rate is 0.5 / 100, looked at from a standard error above; each event adds its ratio."""
    chart = rate_chart([0.0] * 99 + [1.0, 0.0, 1.0], baseline=99)
    assert chart is not None
    rate = 0.005 + np.sqrt(0.005 * 0.995 / 99)
    other = 3 * rate / (1 + 2 * rate)
    event, none = np.log(other / rate), np.log((1 - other) / (1 - rate))
    np.testing.assert_allclose(chart.up_E, [event, event + none, 2 * event + none])
