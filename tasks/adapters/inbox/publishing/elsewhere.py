"""What another workspace has published: what a stage must know of it that reads there, from the manifest itself."""

from __future__ import annotations

from collections import Counter

from schemas.config.run import RunConfig
from schemas.exam import FINDINGS, UNKNOWN
from schemas.reports.data import IngestReport
from tasks.adapters.inbox.publication import manifest_sizes
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.objects.bucket_store import store_of_run
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.views import seen_breasts, seen_fractions


def published_elsewhere(config: RunConfig) -> IngestReport:
    """The report of an ingest that took place elsewhere, in so far as the manifest tells.

    Raises:
        StoreError: There is no such store, or nothing is published in it.
        PeerUnavailable: The object store cannot be asked.
    """
    store = store_of_run(config)
    manifest, settings = read_manifest(store), read_settings(store.files)
    is_labelled = (manifest[[finding.value for finding in FINDINGS]] != UNKNOWN).any(axis=1)
    labelled = is_labelled.groupby([manifest["exam_id"], manifest["laterality"]]).any()
    scale = float(manifest["scale"].min()) if len(manifest) else None
    return IngestReport(
        store_dir=store.folder,
        files_found=len(manifest),
        images_new=0,
        quarantined_by_reason={},
        warnings_by_rule=dict(Counter(code for codes in manifest["gate_warnings"] for code in codes.split())),
        labelled_breasts=int(labelled.sum()),
        orphan_labels=0,
        unlabelled_breasts=int((~labelled).sum()),
        terms=" ".join(settings.terms),
        seen=seen_breasts(seen_fractions(manifest, settings.preprocess.window_px), scale),
        **manifest_sizes(manifest),
    )
