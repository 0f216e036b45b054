"""A real PostgreSQL server on loopback, with a data folder of its own; it may be killed and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from mammo_tests.other_systems import free_port, until

DATABASE = USER = "prefect"


@dataclass
class PostgresqlServer:
    """Takes its user from loopback without a password, unless ``pg_hba.conf`` says otherwise."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of its database, as libpq has it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """It answers when this returns."""
        command = [program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1"]
        command += ["-k", str(self.folder), "-F"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", user=_unprivileged()
        )
        assert until(lambda: self.ask("SELECT 1", "postgres") == "1"), "PostgreSQL does not answer"

    def kill(self) -> None:
        """With all its sessions, as a power cut does."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """At once; its folder goes with it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()

    def ask(self, sql: str, database: str = DATABASE) -> str:
        """What psql says; "" where it cannot."""
        command = [program("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database, "-Atc", sql]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A running server with an empty database; the test is skipped where PostgreSQL is not installed."""
    if _found("initdb") is None or _found("postgres") is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="mammo-pg-"))
    server = PostgresqlServer(folder, free_port())
    try:
        if user is not None:
            shutil.chown(folder, user)
        trust = ["--auth=trust", f"--username={USER}", "--no-sync", "--encoding=UTF8", "--locale=C"]
        command = [program("initdb"), "-D", str(folder / "data"), *trust]
        subprocess.run(command, check=True, capture_output=True, cwd="/", user=user)
        server.start()
        server.ask(f"CREATE DATABASE {DATABASE}", "postgres")
        yield server
    finally:
        server.end()
        shutil.rmtree(folder, ignore_errors=True)


def named_schema(folder: Path, address: str) -> Path:
    """A file that stands for a ledger in a schema of its own, which is not there yet."""
    from tasks.adapters.databases.postgresql import NamedSchema  # late: the driver is an extra

    path = folder / "ledger.json"
    NamedSchema(address=address, schema=f"mammo_{uuid4().hex}").write(path)
    return path


def program(name: str) -> str:
    """A PostgreSQL program; Debian keeps them off the path."""
    found = _found(name)
    assert found is not None, name
    return found


def _found(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {user.pw_name for user in pwd.getpwall()} else "nobody"
