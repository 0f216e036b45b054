"""Other systems that a config names, each asked as a run would: buckets, clusters, databases, the PACS."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.commands.examination.complaint import Complaint
from schemas.config.ingest import KubernetesDask, SlurmDask
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, MammoError, extra_from
from tasks.adapters.workspace import Workspace


def bucket(config: RunConfig) -> Iterator[Complaint]:
    """Whether the bucket of exams can be listed, as ingest does it first."""
    url = config.ingest.bucket_url
    if url is None:
        return
    from tasks.adapters.inbox.sources.source_bucket import require_bucket

    try:
        require_bucket(url)
        yield Complaint(check="source", is_well=True, found=f"{url} can be listed")
    except MammoError as silent:
        yield Complaint(check="source", is_well=False, found=str(silent), remedy="see docs/how-to/exams-in-a-bucket.md")


def dask(config: RunConfig) -> Iterator[Complaint]:
    """Whether the extra of a cluster's workers is installed."""
    from tasks.adapters.cluster import kubernetes_spec, slurm_cluster

    dask = config.ingest.dask
    try:
        if isinstance(dask, SlurmDask):
            slurm_cluster(dask).close()
        elif isinstance(dask, KubernetesDask):
            kubernetes_spec(dask)
        else:
            return
        yield Complaint(check="dask", is_well=True, found=f"{dask.kind}: the extra is installed")
    except ConfigError as missing:
        yield Complaint(check="dask", is_well=False, found=str(missing), remedy=extra_from(dask.kind))


def object_store(config: RunConfig) -> Iterator[Complaint]:
    """The object store of the exam store, asked for what a writer asks, and for what a reader does."""
    from tasks.adapters.store.store_settings import objects_of

    store = Workspace(config.workspace_dir).store
    try:
        if config.ingest.store:
            objects_of(store, config.ingest.store).require_conditions()
            yield Complaint(check="store", is_well=True, found=f"{config.ingest.store} answers, and keeps two writers apart")
        if isinstance(config.store_dir, str):
            holds = objects_of(store, config.store_dir).is_store()
            remedy = "" if holds else "run mammo ingest with this address as ingest.store first, or correct store_dir"
            found = f"{config.store_dir} answers, and {'holds a store' if holds else 'holds no store'}"
            yield Complaint(check="store", is_well=holds, found=found, remedy=remedy)
    except MammoError as silent:
        remedy = "see docs/how-to/scale-out.md: the address, AWS_ENDPOINT_URL, and who we are there"
        yield Complaint(check="store", is_well=False, found=str(silent), remedy=remedy)


def ledger(config: RunConfig) -> Iterator[Complaint]:
    """The database of the ledger, asked whether it lets us in."""
    if not (address := config.ingest.ledger):
        return
    try:
        from tasks.adapters.databases.postgresql import reach  # late: the driver is an extra

        reached, but, remedy = reach(address, name="ledger"), "", ""
        if not reached.takes_writes:
            but = ", and writes nothing: it only reads for another"
            remedy = "let ingest.ledger name the server that takes writes"
        elif not reached.may_make:
            but = ", and lets us make no schema"
            remedy = "GRANT CREATE ON DATABASE to its user: each store has a schema of its own"
        found = f"PostgreSQL {reached.version} answers at {address}{but}"
        yield Complaint(check="ledger", is_well=not but, found=found, remedy=remedy)
    except MammoError as silent:
        yield Complaint(check="ledger", is_well=False, found=str(silent), remedy="see docs/how-to/scale-out.md")


def peers(config: RunConfig) -> Iterator[Complaint]:
    """Each peer, asked as ``mammo pacs echo`` does; and what our listener needs to begin."""
    if config.pacs is None:
        return
    from tasks.adapters.pacs.peers import callers, require_extra, server_context
    from tasks.adapters.pacs.sources import reach

    for name, peer in config.pacs.peers.items():
        try:
            reach(config.pacs, peer)
            yield Complaint(check="pacs", is_well=True, found=f"{name} answers")
        except MammoError as silent:
            remedy = "see docs/how-to/pacs.md; it is asked in the same way by mammo pacs echo"
            yield Complaint(check="pacs", is_well=False, found=f"{name}: {silent}", remedy=remedy)
    if config.pacs.listen is None:
        return
    try:
        require_extra()
        known = [title for title, caller in callers(config.pacs).items() if caller.peer.may_push]
        if config.pacs.listen.uses_tls and config.pacs.tls is not None:
            server_context(config.pacs.tls)
        found = f"the listener takes exams from {', '.join(known) or 'nobody'}"
        remedy = "" if known else "add a peer of kind dimse with may_push to pacs.peers"
        yield Complaint(check="pacs", is_well=bool(known), found=found, remedy=remedy)
    except MammoError as unfit:
        yield Complaint(check="pacs", is_well=False, found=f"the listener: {unfit}", remedy="see docs/how-to/pacs.md")
