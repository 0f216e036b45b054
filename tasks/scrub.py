"""Scrub: every stored image against its digests, and the ledger and the manifest against each other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.reports.data import ScrubReport
from tasks.adapters.cluster import Failed, run_all
from tasks.adapters.inbox.claims import publishable
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.store_ledger import StoreLedger, adopted
from tasks.adapters.store.exam_store import ExamStore, delete_set_aside, open_store, set_aside_unreadable_shards
from tasks.adapters.store.manifest import published_rows
from tasks.adapters.store.objects.bucket_store import as_it_lies, lost, put_again
from tasks.adapters.store.verification import Damage, DigestJob, ExpectedImage, cannot_be_read, find_damage, write_damage_list
from tasks.adapters.workspace import Workspace
from tasks.artifacts import progress, show_table

logger = logging.getLogger(__name__)

_IMAGES_PER_JOB = 64


@task(name="read-everything", cache_policy=NO_CACHE, persist_result=False)
def read_everything(config: RunConfig, scheduler: str) -> ScrubReport:
    """Reads every published image, writes the list of damaged ones and marks nothing.

    Raises:
        StoreError: There is no store, its ledger cannot be read, or a worker cannot read at all.
    """
    store = as_it_lies(adopted(open_store(Workspace(config.workspace_dir).store_dir)))
    published, awaited, is_ledger_sound = _expected(store)
    images = [*published, *awaited]
    jobs = [
        DigestJob(store=store, images=tuple(images[start : start + _IMAGES_PER_JOB]))
        for start in range(0, len(images), _IMAGES_PER_JOB)
    ]
    found: list[Damage] = []
    with progress("scrub", len(images), "images") as tracker:
        for done, result in enumerate(run_all(scheduler, find_damage, jobs), start=1):
            if isinstance(result, Failed):
                raise cannot_be_read(result.cause, result.error) from result.cause
            found += result
            tracker.advance_to(min(done * _IMAGES_PER_JOB, len(images)))
    was_awaited, still_damaged = {image.file_id for image in awaited}, {one.image.file_id for one in found}
    damage = [one for one in found if one.image.file_id not in was_awaited]
    folder = Workspace(config.workspace_dir).stage_dir("scrub")
    write_damage_list(folder / "damage.csv", damage)
    report = ScrubReport(
        store_dir=store.folder,
        images_read=len(published),
        damaged_image_ids=tuple(sorted({one.image.image_id for one in damage})),
        damaged_file_ids=tuple(sorted({one.image.file_id for one in damage})),
        is_ledger_sound=is_ledger_sound,
        is_manifest_sound=published_rows(store) == {image.image_id: image.row for image in published} and not lost(store),
        awaited_image_ids=tuple(image.image_id for image in awaited if image.file_id in still_damaged),
        whole_again_file_ids=tuple(sorted(was_awaited - still_damaged)),
        damage_path=folder / "damage.csv",
    )
    Workspace(config.workspace_dir).write_report("scrub", report)
    show_table("scrub", [{"array": one.array, "image": one.image.image_id, "got": one.got} for one in damage[:1000]], "Damage")
    logger.info("read %d images, %d of them damaged", len(published), len(report.damaged_image_ids))
    if awaited:
        logger.warning(
            "%d images were damaged earlier and are not published; %d of them can be read again, which --repair publishes",
            len(awaited),
            len(report.whole_again_file_ids),
        )
    return report


@task(name="mark-damaged", cache_policy=NO_CACHE, persist_result=False)
def mark_damaged(config: RunConfig, report: ScrubReport) -> None:
    """Lets the next ingest read the damaged images' files again; until then they are not published, and nothing is deleted."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    put_again(store)
    with StoreLedger(store) as ledger:
        ledger.mark_whole(report.whole_again_file_ids)
        ledger.mark_damaged(report.damaged_file_ids)
        set_aside_unreadable_shards(store, [line.row for line in ledger.damaged_lines()])


@task(name="after-repair", cache_policy=NO_CACHE, persist_result=False)
def after_repair(found: ScrubReport, again: ScrubReport) -> ScrubReport:
    """What the second reading says, with what became of the damage of the first."""
    store = open_store(again.store_dir)
    published = published_rows(store)
    damaged = {*found.damaged_image_ids, *found.awaited_image_ids}
    lost = damaged.difference(published)
    repaired = len(damaged) - len(lost) - len(damaged.intersection(again.damaged_image_ids)) + len(found.whole_again_file_ids)
    if not lost and not again.damaged_image_ids:
        delete_set_aside(store)
    return again.model_copy(update={"images_repaired": repaired, "images_lost": len(lost)})


def refuse_damage(report: ScrubReport) -> None:
    """Makes damage that was left an error.

    Raises:
        StoreError: There is some.
    """
    faults = [f"{len(report.damaged_image_ids)} of {report.images_read} images"] if report.damaged_image_ids else []
    faults += [f"{report.images_lost} images lost"] if report.images_lost else []
    faults += [] if report.is_ledger_sound else ["the ledger"]
    faults += [] if report.is_manifest_sound else ["the manifest"]
    if faults:
        raise StoreError(
            f"Damaged in {report.store_dir}: {', '.join(faults)}",
            expected="what was written",
            got=f"see {report.damage_path}",
            remedy="`mammo scrub --repair` reads the source files again; a damaged ledger must come from a backup",
        )


# ---------------------------------------------------------------------------------------------------------------------


def _expected(store: ExamStore) -> tuple[Sequence[ExpectedImage], Sequence[ExpectedImage], bool]:
    """What is to be published, by row; what is not because it was found damaged; whether SQLite finds the ledger sound."""
    with StoreLedger(store) as ledger:
        is_ledger_sound = ledger.is_sound()
        return _images(publishable(ledger.manifest_lines()).lines), _images(ledger.damaged_lines()), is_ledger_sound


def _images(lines: Sequence[LedgerLine]) -> list[ExpectedImage]:
    return [
        ExpectedImage(
            file_id=line.file_id,
            image_id=line.image_id,
            row=line.row,
            shape_px=line.stored_shape_px,
            written_sha256=line.written_sha256,
            mask_sha256=line.mask_sha256,
        )
        for line in lines
    ]
