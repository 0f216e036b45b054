"""Facts about running a verb on this machine, against a real server."""

from __future__ import annotations

from pathlib import Path

from deployments.workstation import run_verb
from schemas.config import IngestConfig, PhantomConfig, RunConfig


def test_a_run_is_found_by_its_tags(prefect_api: str, tmp_path: Path) -> None:
    """The server knows the run by its config's name, its gate profile and its network."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    phantom = PhantomConfig(output_dir=tmp_path / "cohort", patients=1, exams_per_patient=(1, 1), image_size_px=(384, 288))
    ingest = IngestConfig(source_dir=tmp_path / "cohort" / "dicom", profile="phantom")
    config = RunConfig(name="tagged", workspace_dir=tmp_path / "workspace", phantom=phantom, ingest=ingest)

    run_verb("phantom", config)

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["run:tagged"])))
    assert [set(run.tags) for run in runs] == [{"run:tagged", "profile:phantom", "model:gmic"}]
