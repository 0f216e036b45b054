"""Scrub: read everything -> (repair: ingest what is damaged again, and read everything once more)."""

from __future__ import annotations

from flows.ingest import ingest_what_is_here
from schemas.config.run import RunConfig
from schemas.reports.data import ScrubReport
from tasks.adapters.cluster import open_cluster
from tasks.adapters.inbox.shared_ledger import held_ledger
from tasks.adapters.inbox.source_folder import require_apart
from tasks.adapters.pages.withdrawn import finish_withdrawals
from tasks.adapters.workspace import Workspace
from tasks.artifacts import config_flow
from tasks.scrub import after_repair, mark_damaged, read_everything, refuse_damage


@config_flow(name="scrub", run_name="scrub-{config.name}")
def scrub(config: RunConfig, repair: bool = False) -> ScrubReport:
    """Every stored image against its digests.

    Args:
        config: The run whose store to read.
        repair: Ingest damaged images again from their files, or from any file with the same bytes; one without a file leaves
            the manifest until it, or what was stored, is back.

    Raises:
        StoreError: There is damage, and it was not to be repaired or could not be.
    """
    report = scrub_steps(config)
    if repair and (report.damaged_image_ids or report.is_incomplete or not report.is_manifest_sound):
        with held_ledger(config, purpose="scrub --repair"):
            mark_damaged(config, report)
        ingest_what_is_here(config)  # a PACS that is away keeps nothing from being repaired: what is stored is not fetched
        report = after_repair(report, scrub_steps(config))
    refuse_damage(report)
    return report


def scrub_steps(config: RunConfig) -> ScrubReport:
    """One reading of everything; no ingest writes meanwhile."""
    require_apart(config.workspace_dir, config.ingest.source_dir)
    with (
        held_ledger(config, purpose="scrub"),
        open_cluster(config.ingest.dask) as scheduler,
    ):
        finish_withdrawals(Workspace(config.workspace_dir))
        return read_everything(config, scheduler)
