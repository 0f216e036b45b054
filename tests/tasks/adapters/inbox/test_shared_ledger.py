"""Two machines with one key, one bucket and one database: the second goes on where the first was, and nothing is done twice."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pytest import MonkeyPatch

from deployments.commands import doctor
from deployments.commands.backup import backup, restore
from flows.ingest import ingest_steps
from mammo_tests.ledger_files import accepted_file
from mammo_tests.object_store import BUCKET
from mammo_tests.other_systems import until
from mammo_tests.plain_tasks import PlainSubmit
from mammo_tests.postgresql import DATABASE, PostgresqlServer, named_schema
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, PeerRefused, PeerUnavailable, StoreBusy, StoreError
from schemas.reports.data import IngestReport
from tasks.adapters.buckets.bucket import bucket_at
from tasks.adapters.databases.postgresql import NamedSchema
from tasks.adapters.inbox import batches
from tasks.adapters.inbox.ledger import Ledger, ledger_database
from tasks.adapters.inbox.shared_ledger import copy_ledger, held_ledger
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.inbox.withdrawals.removal import ask_for
from tasks.adapters.inbox.withdrawals.withdrawal import Withdrawal, read_log
from tasks.adapters.pages.withdrawn import finish_withdrawals
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import lines_of, published_rows, read_manifest
from tasks.adapters.workspace import Workspace

MakeConfig = Callable[..., RunConfig]


@dataclass
class Site:
    """What machines have in common, and their configs by name.

    Attributes:
        cohort: The exams that lie in the source folder; ``waiting`` come later.
    """

    folder: Path
    cohort: Path
    waiting: Path
    make_config: MakeConfig
    shared: dict[str, str]

    def config(self, name: str, *, brings_key: bool = True, **changes: Any) -> RunConfig:
        """Of a machine, which has the key."""
        config = self.make_config(self.folder / name, self.cohort, **{**self.shared, **changes})
        workspace = Workspace(config.workspace_dir)
        keys = sorted(self.folder.glob("*/pseudonym.key"))
        if brings_key and keys and not workspace.key_path.exists():
            workspace.root.mkdir(exist_ok=True)
            shutil.copy(keys[0], workspace.key_path)
        return config

    def let_all_come(self) -> None:
        """Puts the exams that wait into the source folder."""
        for path in self.waiting.iterdir():
            path.rename(self.cohort / "dicom" / path.name)


def ingested(config: RunConfig) -> IngestReport:
    """An ingest, without a Prefect server."""
    return ingest_steps(config, submit=PlainSubmit())


def ledger_of(config: RunConfig) -> StoreLedger:
    """Of a machine's store."""
    return StoreLedger(open_store(Workspace(config.workspace_dir).store_dir))


def read_so_often(config: RunConfig) -> set[int]:
    """How often the header of each file was read."""
    with closing(ledger_database(Workspace(config.workspace_dir).store.ledger_path)) as database:
        return {attempts for (attempts,) in database.query("SELECT attempts FROM files")}


@pytest.fixture
def site(s3: str, postgresql: PostgresqlServer, tmp_path: Path, cohort_dir: Path, make_config: MakeConfig) -> Site:
    """Two exams, one of which comes later."""
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    left_out = shutil.ignore_patterns(*(exam.name for exam in exams[1:]), "CANARY-*")
    shutil.copytree(cohort_dir, tmp_path / "cohort", ignore=left_out)
    shutil.copytree(exams[1], tmp_path / "waiting" / exams[1].name)
    shared = {"ingest.store": f"s3://{BUCKET}/{uuid4().hex}", "ingest.ledger": postgresql.address}
    return Site(tmp_path, tmp_path / "cohort", tmp_path / "waiting", make_config, shared)


def test_a_second_machine_goes_on_where_the_first_is_gone(site: Site) -> None:
    """It has the key and the config alone; the manifest holds all, no file is read twice, no row is given out twice."""
    first, second = site.config("first"), site.config("second")
    assert ingested(first).images_published == 4
    second = site.config("second")
    with ledger_of(first) as ledger:
        rows = ledger.rows()
    shutil.rmtree(first.workspace_dir)
    site.let_all_come()
    report = ingested(second)
    assert (report.images_published, report.images_new, report.exams) == (8, 4, 2)
    store = open_store(Workspace(second.workspace_dir).store_dir)
    given = published_rows(store)
    assert rows < set(given.values()) and len(set(given.values())) == 8
    assert read_so_often(second) == {1}
    names = {path.name for path in Workspace(second.workspace_dir).store_dir.iterdir()}
    assert "ledger.json" in names and not any("sqlite" in name for name in names)
    alone = site.config("alone", **{"ingest.store": "", "ingest.ledger": ""})
    assert ingested(alone).data_version == report.data_version
    assert ingested(second).images_new == 0


def test_machines_take_turns(site: Site) -> None:
    """Each sees what the other has published, refuses to write in the other's turn, and settles nothing twice."""
    one, other = site.config("one"), site.config("other")
    ingested(one)
    other = site.config("other")
    with held_ledger(other, purpose="test"):
        with ledger_of(one) as ledger, pytest.raises(StoreBusy, match="Another machine writes the ledger now") as refused:
            ledger.forget_deferrals()
        with pytest.raises(StoreBusy, match="is in use"):
            ingested(one)
    assert refused.value.exit_code == 75
    site.let_all_come()
    assert ingested(other).images_published == 8
    before = published_rows(open_store(Workspace(one.workspace_dir).store_dir))
    report = ingested(one)
    assert len(before) == 4 and (report.images_published, report.images_new) == (8, 0)
    assert read_so_often(one) == {1}


def test_who_has_another_key_or_none_or_another_database_is_refused(site: Site, postgresql: PostgresqlServer) -> None:
    """Each in a sentence, before anything is changed in bucket or database."""
    first = site.config("first")
    ingested(first)
    without = site.config("without", brings_key=False)
    with pytest.raises(ConfigError, match=r"was made with one.*copy its pseudonym.key"):
        ingested(without)
    key = Workspace(without.workspace_dir).key_path
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    with pytest.raises(StoreError, match="is not the key that the pseudonyms of this store were made with"):
        ingested(without)
    postgresql.ask("CREATE DATABASE empty")
    elsewhere = site.config("elsewhere", **{"ingest.ledger": f"{postgresql.address[: -len(DATABASE)]}empty"})
    with pytest.raises(StoreError, match=r"is not in the database that the file names.*correct ingest.ledger"):
        ingested(elsewhere)
    with pytest.raises(StoreError, match=r"is in a database, and ingest.ledger of the config is empty"):
        ingested(site.config("first", **{"ingest.ledger": ""}))
    with pytest.raises(StoreError, match="Another workspace publishes at"):
        ingested(site.config("forgetful", **{"ingest.ledger": ""}))
    assert ingested(first).images_published == 4


def test_a_ledger_of_a_file_moves_into_the_database(site: Site) -> None:
    """By naming it: what was refused, settled and given out goes with it, the file goes, and other machines go on."""
    alone = site.config("first", **{"ingest.ledger": ""})
    before = ingested(alone)
    with ledger_of(alone) as ledger:
        lines, rows = ledger.manifest_lines(), ledger.row_count()
    config = site.config("first")
    report = ingested(config)
    assert (report.data_version, report.images_new) == (before.data_version, 0) and read_so_often(config) == {1}
    with ledger_of(config) as ledger:
        assert (ledger.manifest_lines(), ledger.row_count()) == (lines, rows)
    assert not list(Workspace(config.workspace_dir).store_dir.glob("*.sqlite*"))
    site.let_all_come()
    assert ingested(site.config("second")).images_new == 4


def test_a_backup_holds_the_ledger_and_fills_a_database_that_lost_it(site: Site, postgresql: PostgresqlServer) -> None:
    """One that still has it knows more than the archive, and stays as it is."""
    config = site.config("first")
    report = ingested(config)
    workspace = Workspace(config.workspace_dir)
    archive, store_id = site.folder / "backup.tar", open_store(workspace.store_dir).store_id
    backup(workspace.root, archive)
    site.let_all_come()
    assert ingested(config).images_published == 8
    restore(archive, workspace.root)
    assert ingested(config).images_published == 8 and read_so_often(config) == {1}
    postgresql.ask(f'DROP SCHEMA "mammo_{store_id}" CASCADE')
    with pytest.raises(StoreError, match="is not in the database"):
        ingested(config)
    restore(archive, site.folder / "restored")
    again = site.config("restored")
    with ledger_of(again) as ledger:
        assert ledger.row_count() == 4 and ledger.is_sound()
    assert report.images_published == 4 and ingested(again).images_published == 8


def test_what_one_machine_withdraws_is_gone_from_all(site: Site) -> None:
    """Also what it only said before it was gone; what stood of it in another machine's folders goes at that one's next run."""
    first = site.config("first")
    ingested(first)
    site.let_all_come()
    second = site.config("second")
    ingested(second)
    image = str(lines_of(read_manifest(open_store(Workspace(second.workspace_dir).store_dir)))[0]["image_id"])
    pages = Workspace(second.workspace_dir).stage_dir("explain")
    pages.mkdir()
    (pages / f"{image}.png").touch()
    said = Withdrawal(name=image, names=(image,), reason="r", withdrawn_by="b", withdrawn_utc="2026-01-02T03:04:05+00:00")
    with held_ledger(first, purpose="withdraw"), ledger_of(first) as ledger:
        ask_for(Workspace(first.workspace_dir).store, ledger, [said])
    shutil.rmtree(first.workspace_dir)
    third = site.config("third")
    with held_ledger(third, purpose="withdraw"):
        assert [[line.image_id for line in lines] for lines in finish_withdrawals(Workspace(third.workspace_dir))] == [[image]]
    assert pages.exists()
    assert ingested(second).images_published == 7
    assert not pages.exists() and read_log(Workspace(second.workspace_dir).store) == [said]


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.fixture
def mortal(postgresql: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """The server, which a test may kill or close to us; it runs, and is open, when the test is over."""
    rules = postgresql.folder / "data" / "pg_hba.conf"
    before = rules.read_bytes()
    yield postgresql
    if rules.read_bytes() != before or postgresql.process is None or postgresql.process.poll() is not None:
        rules.write_bytes(before)
        postgresql.end()
        postgresql.start()


def failing_at(patch: MonkeyPatch, what: Callable[[], object], *, shard: int) -> None:
    """Lets something happen when so many shards are on their disk, before the ledger hears of the last."""
    seen = [0]
    enter = batches.enter_shard

    def entered(*given: Any) -> Any:
        seen[0] += 1
        if seen[0] == shard:
            what()
        return enter(*given)

    patch.setattr(batches, "enter_shard", entered)


def test_a_database_that_dies_in_mid_ingest_defers_and_loses_nothing(site: Site, mortal: PostgresqlServer) -> None:
    """Code 75 and a sentence; when it is back the next run writes what was not entered, and reads nothing else."""
    site.let_all_come()
    config = site.config("first")
    with MonkeyPatch.context() as patch:
        failing_at(patch, mortal.kill, shard=2)
        with pytest.raises(
            PeerUnavailable, match=r"The ledger in the database .* cannot be asked now.*nothing is lost"
        ) as away:
            ingested(config)
    assert away.value.exit_code == 75
    with pytest.raises(PeerUnavailable, match="cannot be asked now"):
        ingested(config)
    mortal.start()
    with ledger_of(config) as ledger:
        assert len(ledger.manifest_lines()) == len(ledger.unwritten_rows()) == 4
        rows = {row for row, _ in ledger.unwritten_rows().values()}
    report = ingested(config)
    assert report.images_published == 8 and report.files_deferred == 0
    assert rows < set(published_rows(open_store(Workspace(config.workspace_dir).store_dir)).values())


def test_a_connection_that_is_cut_in_mid_ingest_defers(site: Site, postgresql: PostgresqlServer) -> None:
    """The transaction it was in is taken back as a whole."""
    config = site.config("first")

    def cut() -> None:
        postgresql.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mammo'")

    with MonkeyPatch.context() as patch:
        failing_at(patch, cut, shard=1)
        with pytest.raises(PeerUnavailable, match="nothing is lost"):
            ingested(config)
    with ledger_of(config) as ledger:
        assert ledger.manifest_lines() == [] and len(ledger.unwritten_rows()) == 4
    assert ingested(config).images_published == 4


def test_a_store_whose_making_was_broken_off_is_made_anew(site: Site, mortal: PostgresqlServer) -> None:
    """The database was away when the first ingest came to it: nothing was in the store yet."""
    mortal.kill()
    config = site.config("first")
    with pytest.raises(PeerUnavailable, match="cannot be asked now"):
        ingested(config)
    mortal.start()
    assert ingested(config).images_published == 4


def test_a_maker_killed_at_the_end_takes_nothing_from_who_went_on(site: Site) -> None:
    """The ledger was in the database, the store said in the bucket, and the mark of a store in the making still there."""
    first = site.config("first")
    ingested(first)
    files = Workspace(first.workspace_dir).store
    second = site.config("second")
    site.let_all_come()
    assert ingested(second).images_published == 8
    for path in (files.settings_path, files.manifest_path):  # as on the first one's disk at that moment
        path.unlink()
    files.unfinished_path.touch()
    shutil.rmtree(Workspace(first.workspace_dir).stage_dir("ingest"))
    assert (ingested(first).images_published, ingested(second).images_published) == (8, 8)
    assert not files.unfinished_path.exists() and read_so_often(first) == {1}


def test_a_bucket_that_lost_the_manifest_takes_nothing_from_the_folder(site: Site) -> None:
    """That it is gone is said as of any store in a bucket; what this machine last saw is not deleted after it."""
    config = site.config("first")
    ingested(config)
    bucket_at(config.ingest.store).delete("manifest.parquet")
    with pytest.raises(StoreError, match="gone from"):
        ingested(config)
    assert len(published_rows(open_store(Workspace(config.workspace_dir).store_dir))) == 4


def test_a_password_is_in_no_file_and_no_sentence(
    site: Site, mortal: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver takes it from PGPASSFILE; a wrong one is a refusal (9), and is shown to nobody."""
    mortal.ask("ALTER USER prefect PASSWORD 'CANARYPASSWORD'")
    (mortal.folder / "data" / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    mortal.ask("SELECT pg_reload_conf()")
    passwords = site.folder / "passwords"
    passwords.write_text("*:*:*:*:CANARYPASSWORD\n")
    passwords.chmod(0o600)
    config = site.config("first")
    assert [(one.check, one.is_well) for one in doctor.examine(config) if one.check == "ledger"] == [("ledger", False)]
    with pytest.raises(PeerRefused, match="is closed to us") as refused:
        ingested(config)
    assert refused.value.exit_code == 9
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    said = [one for one in doctor.examine(config) if one.check == "ledger"]
    assert said[0].is_well and re.search("PostgreSQL [0-9.]+.* answers", said[0].found)
    assert ingested(config).images_published == 4
    held = [path for path in Workspace(config.workspace_dir).root.rglob("*") if path.is_file()]
    assert not any(b"CANARYPASSWORD" in path.read_bytes() for path in held)


# ------------------------------------------------------------------------------------------------------- growth, copies


def test_what_is_read_for_a_file_does_not_grow_with_the_ledger(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    """Tables that fill up within a run are looked up by their index all along; from end to end it would be 600 rows a row."""
    path = named_schema(tmp_path, postgresql.address)
    jobs, size = 600, 8
    with Ledger(path) as ledger:
        for job in range(jobs):
            names = [f"{job}-{i}" for i in range(size)]
            ledger.add_accepted(
                accepted_file(f"F{n}", at="1-1", image_id=f"I{n}", exam_id="E", source_sha256="") for n in names
            )
    told = "SELECT coalesce(sum(idx_scan), 0), sum(n_tup_ins), sum(seq_tup_read) FROM pg_stat_user_tables"
    told += f" WHERE schemaname = '{NamedSchema.read(path).schema}'"
    assert until(lambda: postgresql.ask(told).split("|")[1] == str(2 * size * jobs + 1))  # a session tells it when it ends
    assert int(postgresql.ask(told).split("|")[2]) < 100 * size * jobs


def test_a_copy_is_all_or_nothing_and_equal(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    """From a file into a database and back, in the order of entry; its file is the owner's alone."""
    source, named, back = tmp_path / "one.sqlite", tmp_path / "two.json", tmp_path / "three.sqlite"
    NamedSchema(address=postgresql.address, schema=f"mammo_{uuid4().hex}").write(named)
    with Ledger(source) as ledger:
        ledger.add_accepted(
            accepted_file(f"F{i}", at="1-1", image_id=f"I{i}", exam_id="E\u00fc\\N\t", source_sha256="") for i in range(2500)
        )
        ledger.plan_rows(4, planned_utc="2026-01-02T03:04:05+00:00")
    copy_ledger(source, named)
    copy_ledger(named, back)
    assert stat.S_IMODE(back.stat().st_mode) == 0o600
    with contents(source) as one, contents(named) as two, contents(back) as three:
        assert one.items() <= two.items() and two == three and len(one["images"]) == 2500
    with pytest.raises(StoreError):
        copy_ledger(source, named)
    with contents(named) as two:
        assert two == three


@contextmanager
def contents(path: Path) -> Iterator[dict[str, list[Any]]]:
    """All rows of each table."""
    with closing(ledger_database(path)) as database:
        yield {table.name: [row for part in table.rows for row in part] for table in database.tables()}
