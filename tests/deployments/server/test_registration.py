"""What is registered: the shipped deployments with the user's config in them, by a clock that has no summer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.configuration import load_config, load_service
from deployments.server.registration import deployments_for, secret_of, shipped_deployments
from deployments.server.workstation import scoring_command
from schemas.config.run import RunConfig
from schemas.errors import ConfigError

FLOWS = {path.stem for path in (Path(__file__).parents[3] / "flows").glob("*.py")} - {"__init__"}
SHIPPED: dict[str, Any] = yaml.safe_load(shipped_deployments())


def test_every_flow_has_a_deployment() -> None:
    """A new flow gets its row: description, tags, pool, limit."""
    assert {each["name"] for each in SHIPPED["deployments"]} == FLOWS
    for each in SHIPPED["deployments"]:
        assert each["description"] and each["tags"] and each["concurrency_limit"]["limit"] == 1


def test_a_trigger_remembers_what_it_fired_for() -> None:
    """An event that the server hands out again fires nothing: without a period, or with one for all resources, it would."""
    triggers = [trigger for each in SHIPPED["deployments"] for trigger in each.get("triggers", [])]
    assert len(triggers) == 2
    for trigger in triggers:
        assert trigger["within"] > 0 and trigger["for_each"] == ["prefect.resource.id"]


def test_what_needs_a_section_starts_by_itself_where_it_is(tmp_path: Path) -> None:
    """Results go back to a PACS by the clock and after a prediction; without a PACS no run of it fills the list."""
    content = {"name": "ward", "workspace_dir": "/data/ward", "ingest": {"source_dir": "/data/in"}}
    peers = {"archive": {"kind": "dicomweb", "url": "http://127.0.0.1:8042/dicom-web"}}
    for pacs, starts in ((None, False), ({"peers": peers}, False), ({"peers": peers, "results": {"peer": "archive"}}, True)):
        config = RunConfig.model_validate(content | ({"pacs": pacs} if pacs else {}))
        (found,) = [each for each in deployments_for(config)["deployments"] if each["name"] == "return_results"]
        assert [name in found for name in ("schedules", "triggers")] == [starts, starts]


def test_a_synthetic_exam_goes_by_the_clock_where_it_is_asked_for() -> None:
    """Every hour with a section health, and never without; devices are watched every morning in any case."""
    content = {"name": "ward", "workspace_dir": "/data/ward", "ingest": {"source_dir": "/data/in"}}
    for health, starts in ((None, False), ({}, True)):
        config = RunConfig.model_validate(content | {"health": health})
        found = {each["name"]: "schedules" in each for each in deployments_for(config)["deployments"]}
        assert (found["health"], found["watch"]) == (starts, True)


def test_every_field_of_the_form_says_what_it_means() -> None:
    """The UI shows a field's description beside it; a section has its class's docstring."""
    schema = RunConfig.model_json_schema()
    for section, about in {**schema["$defs"], "RunConfig": schema}.items():
        fields = {name: field for name, field in about.get("properties", {}).items() if name != "kind" and "$ref" not in field}
        assert not [name for name, field in fields.items() if not field.get("description")], section
        assert about.get("description"), section


def test_the_config_takes_the_place_of_the_variables(tmp_path: Path) -> None:
    """Each deployment's default is the whole config of the run; runs of the service take turns at the store."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"name": "ward", "workspace_dir": "/data/ward", "ingest": {"source_dir": "/data/in"}}))
    content = deployments_for(load_config(path))
    assert "{{" not in yaml.safe_dump(content)
    for each in content["deployments"]:
        given = each["parameters"]["config"]
        assert (given["name"], given["ingest"]["source_dir"], given["ingest"]["lock_wait_s"]) == ("ward", "/data/in", 3600)


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("name", ["ingest", "predict"])
def test_no_hour_is_missing_or_doubled_when_clocks_change(name: str, day: str) -> None:
    """On both days of the year on which Europe changes its clocks: one nightly run, twenty-four hourly ones."""
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.server.schemas.schedules import CronSchedule as ServerCron

    (shipped,) = next(each["schedules"] for each in SHIPPED["deployments"] if each["name"] == name)
    schedule = CronSchedule(cron=shipped["cron"], timezone=shipped["timezone"])
    start = datetime.fromisoformat(f"{day}T00:00:00").replace(tzinfo=UTC)
    import asyncio

    dates = asyncio.run(ServerCron(cron=schedule.cron, timezone=schedule.timezone).get_dates(n=50, start=start))
    of_the_day = [date for date in dates if date.astimezone(UTC).date() == start.date()]
    assert len(of_the_day) == len(set(of_the_day)) == {"ingest": 1, "predict": 24}[name]


def test_the_process_that_stays_reads_the_very_config(tmp_path: Path) -> None:
    """It answers `mammo infer` of this config only, so what it is left must be read as what was given, and is the owner's."""
    path = tmp_path / "run.yaml"
    content = {"name": "ward", "workspace_dir": "/data/ward", "ingest": {"source_dir": "/data/in"}, "evaluate": {}}
    path.write_text(yaml.safe_dump(content))
    config = load_config(path)
    command = scoring_command(config, tmp_path)
    assert command[-3:] == ["infer", str(tmp_path / "scoring.json"), "--stay"]
    left = load_config(tmp_path / "scoring.json")
    assert left == config and left.model_dump_json() == config.model_dump_json()
    assert (tmp_path / "scoring.json").stat().st_mode & 0o077 == 0


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Mode 0600 or nothing; the message never holds the secret."""
    path = tmp_path / "url"
    path.write_text("https://hooks.example/SECRET")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        secret_of(path)
    assert "SECRET" not in str(refused.value)
    path.chmod(0o600)
    assert secret_of(path).get_secret_value().endswith("SECRET") and "SECRET" not in repr(secret_of(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        secret_of(tmp_path / "gone")


def test_service_settings_are_checked_like_a_config(tmp_path: Path) -> None:
    """A misspelt key is named with the right one; a heartbeat cannot be faster than Prefect's."""
    path = tmp_path / "service.yaml"
    path.write_text("gpu_slot: 2")
    with pytest.raises(ConfigError, match="did you mean 'gpu_slots'"):
        load_service(path)
    path.write_text("silence_s: 10")
    with pytest.raises(ConfigError, match="silence_s"):
        load_service(path)
    path.write_text("notice: {kind: email, key_file: key, sender: a@b.c, recipients: [d@e.f]}")
    notice = load_service(path).notice
    assert notice is not None and notice.kind == "email"
