"""Data checks: Great Expectations runs the suites; the only home of that library (docs/reference/data-checks.md).

No data value leaves: results are asked for as counts, read for counts, and a foreign exception is reported by its name alone.
Data Docs, which would show values and run injected HTML, are never built. Which checks there are does not belong here.
"""

from __future__ import annotations

import builtins
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from schemas.reports.data import CheckResult
from tasks.adapters.checks.check import Check, Suite
from tasks.adapters.checks.drift_suite import drift_suite
from tasks.adapters.checks.image_suites import MANIFEST_SUITES, manifest_suites
from tasks.adapters.checks.split_suite import split_suites
from tasks.adapters.interpreter import imported_at_once

logger = logging.getLogger(__name__)


def check_manifest(manifest: pd.DataFrame, *, suites: Collection[str] = MANIFEST_SUITES) -> tuple[CheckResult, ...]:
    """Run the suites ``ingest_images``, ``exams``, ``labels`` and ``batch_drift`` (rules I04, X24, X25, E01-E04, R60-R64).

    Args:
        manifest: One line per image, ``schemas.layout.MANIFEST_COLUMNS``; a missing column is reported, not raised.
        suites: The suites to run; ``labels`` alone is enough after labels that came late.

    Returns:
        Every check in the order of docs/reference/data-checks.md; those that could not be computed carry ``error``.
    """
    every = (*manifest_suites(manifest), drift_suite(manifest))
    return _run_suites([suite for suite in every if suite.name in suites])


def check_splits(
    manifest: pd.DataFrame, splits: pd.DataFrame, person_by_patient: Mapping[str, str] | None = None
) -> tuple[CheckResult, ...]:
    """Run the suite ``splits``: the leakage audit (rule R62) and whether each split can be measured on.

    Args:
        manifest: The published images.
        splits: ``patient_id`` and ``split``, one line per patient.
        person_by_patient: Patients who share a PatientID under several issuers.
    """
    return _run_suites(split_suites(manifest, splits, person_by_patient or {}))


def _run_suites(suites: Sequence[Suite]) -> tuple[CheckResult, ...]:
    """One throw-away context, in memory; one batch per table."""
    context = _open_context()
    results: list[CheckResult] = []
    for number, suite in enumerate(suites):
        results += _run_suite(context, suite, f"{suite.name}-{number}")
    logger.info("%d of %d data checks are met", sum(result.is_met for result in results), len(results))
    return tuple(results)


def _open_context() -> Any:
    with imported_at_once():
        import great_expectations as gx  # 3 to 5 s: paid where data are checked, not where this module is imported
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig

    config = DataContextConfig(
        # Without a site of Data Docs; by default there would be one in the folder for temporary files.
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _run_suite(context: Any, suite: Suite, name: str) -> list[CheckResult]:
    """By the batch itself: a checkpoint and its validation definition would be written to stores and read back."""
    import great_expectations as gx

    expectations = [
        _expectation(check.expectation)(**check.arguments, severity=check.severity.value, meta={"place": place})
        for place, check in enumerate(suite.checks)
    ]
    whole = context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    run = whole.get_batch(batch_parameters={"dataframe": suite.table}).validate(
        gx.ExpectationSuite(name=name, expectations=expectations),
        result_format={"result_format": "SUMMARY", "exclude_unexpected_values": True},
    )
    by_place = {result.expectation_config.meta["place"]: result for result in run.results}
    return [_read_result(suite, check, by_place[place]) for place, check in enumerate(suite.checks)]


@cache
def _expectation(name: str) -> Any:
    """An expectation of our own, which is the library's of this name and writes its configuration once.

    The library's writes it anew for each setting that is asked of it: 20,000 times for 190 checks, a third of their time. Every
    expectation is asked what it is, never changed, while a suite is validated.
    """
    import great_expectations.expectations as gxe
    from pydantic.v1 import PrivateAttr  # of which the library's expectations are made

    librarys = getattr(gxe, name)

    def configuration(self: Any) -> Any:
        if self._written is None:
            self._written = librarys.configuration.fget(self)
        return self._written

    content = {"_written": PrivateAttr(None), "configuration": property(configuration), "__module__": __name__}
    return type(librarys)(f"{name}WrittenOnce", (librarys,), content)


def _read_result(suite: Suite, check: Check, result: Any) -> CheckResult:
    """Take the counts. A check on a whole table or type has none: it fails once, on all of it."""
    error = _error_name(suite.table, check, result.exception_info or {})
    is_met = bool(result.success) and error is None
    failed_whole = not is_met and error is None and "unexpected_count" not in result.result
    return CheckResult(
        suite=suite.name,
        check=check.name,
        column=check.column,
        severity=check.severity.value,
        is_met=is_met,
        unexpected_count=1 if failed_whole else int(result.result.get("unexpected_count") or 0),
        unexpected_percent=100.0 if failed_whole else float(result.result.get("unexpected_percent") or 0.0),
        error=error,
    )


def _error_name(table: pd.DataFrame, check: Check, exception_info: Mapping[str, Any]) -> str | None:
    """Say why a check could not be computed, without the exception's message: pandas and numpy quote values in theirs."""
    # One flat record where the expectation itself raised, a record per metric where a metric did.
    records = [exception_info] if "raised_exception" in exception_info else list(exception_info.values())
    raised = [record for record in records if record.get("raised_exception")]
    if not raised:
        return None
    needed = [value for key, value in check.arguments.items() if key in {"column", "column_A", "column_B"}]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        return f"not computed: column {', '.join(missing)} is missing or could not be counted"
    # The first exception of a chained traceback is the cause; Great Expectations' own, which wraps it, says nothing more.
    names = re.findall(r"^(\w+)(?=:|$)", str(raised[0].get("exception_traceback") or ""), re.MULTILINE)
    kinds = [name for name in names if name.endswith("Error") and hasattr(builtins, name)]
    return f"not computed: {kinds[0] if kinds else 'error'}"
