"""``mammo pacs show``: from a study of a PACS to the page that shows it here."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from deployments.configuration import load_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.reports.pages import ExplainReport, PredictReport
from schemas.reports.report import Report
from tasks.adapters.pacs.peers import peer_of
from tasks.adapters.pacs.sources import open_source
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.workspace import Workspace

AnyReport = TypeVar("AnyReport", bound=Report)


def show(
    config: Annotated[Path, typer.Argument(help="Config file of the run that ingested the study")],
    study: Annotated[
        str | None,
        typer.Argument(help="StudyInstanceUID, or AccessionNumber, which the peer is asked for; without it you are asked"),
    ] = None,
    peer: Annotated[str | None, typer.Option("--peer", help="One of pacs.peers, instead of ingest.source.peer")] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open it in the browser of this machine")] = False,
) -> None:
    """Print where a study is shown: its page of the gallery, or its place on the page of predictions."""
    run = load_config(config)
    workspace = Workspace(run.workspace_dir)
    # Not in the shell's history, nor in the list of processes, unless somebody put it there.
    asked = (study or typer.prompt("StudyInstanceUID or AccessionNumber", err=True)).strip()
    address = _page_of(workspace, open_key(workspace.key_path).exam_id(_study_uid(run, asked, peer)))
    typer.echo(address)
    if opens:
        webbrowser.open(address)


def _page_of(workspace: Workspace, exam_id: str) -> str:
    explained = _report(workspace, "explain", ExplainReport)
    if explained is not None and explained.gallery_path is not None:
        from tasks.adapters.pages.panels import exam_links  # late: OpenCV

        links = exam_links(explained, explained.gallery_path)
        if exam_id in links:
            return (explained.gallery_path.parent / links[exam_id]).resolve().as_uri()
    predicted = _report(workspace, "predict", PredictReport)
    is_predicted = predicted is not None and any(image.exam_id == exam_id for image in predicted.images)
    if is_predicted and predicted is not None and predicted.report_path is not None:
        return f"{predicted.report_path.resolve().as_uri()}#{exam_id}"
    raise ConfigError(
        "No page of this workspace shows the study",
        expected="an exam of the gallery (mammo explain) or of the last prediction (mammo predict)",
        remedy="was it ingested? mammo quarantine list names what was refused",
    )


def _report(workspace: Workspace, stage: str, kind: type[AnyReport]) -> AnyReport | None:
    try:
        return workspace.read_report(stage, kind)
    except FileNotFoundError:
        return None


def _study_uid(run: RunConfig, asked: str, peer: str | None) -> str:
    if "." in asked and asked.replace(".", "").isdigit():
        return asked
    name = peer or ("" if run.ingest.fetched_from is None else run.ingest.fetched_from.peer)
    if run.pacs is None or not name:
        raise ConfigError(
            "An AccessionNumber is asked of a PACS, and none is named",
            expected="pacs.peers, and --peer or ingest.source.peer",
            remedy="name the study by its StudyInstanceUID",
        )
    with open_source(run.pacs, peer_of(run.pacs, name)) as source:
        found = source.exam_named(accession_number=asked)
    if len(found) != 1:
        raise ConfigError("The PACS has no single exam of that number", expected="1 with mammograms", got=len(found))
    return found[0].study_uid
