"""The registry: which models a workspace has, which is in use, by which thresholds, and who changed that, when and why.

SQLite with full sync: what was said to be promoted survives a power cut. A change is one transaction that first looks whether
the model in use is still the one that the decision was made against, so of two at once one wins and one is told.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from schemas.errors import CheckpointError, ConfigError, StoreBusy
from schemas.reports.life.decisions import ModelEvent, ModelState, PromotionAnswer, RegisteredModel, SiteThresholds
from schemas.reports.report import Anchor
from tasks.adapters.databases.sqlite_file import SqliteFile
from tasks.adapters.workspace import Workspace

_TABLES = """
CREATE TABLE IF NOT EXISTS models (
    sha256 TEXT PRIMARY KEY, state TEXT NOT NULL CHECK (state IN ('candidate', 'in use', 'retired')),
    folder TEXT NOT NULL, source TEXT NOT NULL, registered_utc TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS one_is_in_use ON models (state) WHERE state = 'in use';
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, when_utc TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    why TEXT NOT NULL, sha256 TEXT NOT NULL, replaced_sha256 TEXT NOT NULL, answer TEXT);
"""
_PROMOTED, _ROLLED_BACK, _REGISTERED, _THRESHOLDS = "promoted", "rolled back", "registered", "thresholds"


class InUse(NamedTuple):
    """What was put into use: a model, with its locked thresholds or with the site's own for some devices."""

    sha256: str
    thresholds: SiteThresholds | None


class Registry(SqliteFile):
    """One connection; use as a context manager.

    Raises:
        StoreError: The file is no registry, is damaged, or cannot be written. Also raised by every method.
    """

    NAME = "registry of models"
    TABLES = _TABLES

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace.registry_path)
        self._workspace = workspace

    # -------------------------------------------------------------------------------------------------------- asking

    def models(self) -> tuple[RegisteredModel, ...]:
        """Every model, the newest first."""
        rows = self.query("SELECT sha256, state, folder, source, registered_utc FROM models ORDER BY rowid DESC")
        names = ("sha256", "state", "folder", "source", "registered_utc")
        return tuple(RegisteredModel.model_validate(dict(zip(names, row, strict=True))) for row in rows)

    def in_use(self) -> RegisteredModel | None:
        """The model in use; None if nobody has promoted one."""
        return next((model for model in self.models() if model.state is ModelState.IN_USE), None)

    def events(self) -> tuple[ModelEvent, ...]:
        """What was done, oldest first."""
        rows = self.query("SELECT when_utc, who, what, why, sha256, replaced_sha256, answer FROM events ORDER BY number")
        return tuple(
            ModelEvent(
                **dict(zip(("when_utc", "who", "what", "why", "sha256", "replaced_sha256"), row[:6], strict=True)),
                **({} if row[6] is None else _decided(row[2], row[6])),
            )
            for row in rows
        )

    def used(self) -> tuple[InUse, ...]:
        """What was put into use one after the other, as far as it was not rolled back; the last is in use."""
        used: list[InUse] = []
        for event in self.events():
            if event.what in (_PROMOTED, _THRESHOLDS):
                used.append(InUse(event.sha256, event.thresholds))
            elif event.what == _ROLLED_BACK:
                used.pop()
        return tuple(used)

    def folder_of(self, model: RegisteredModel) -> Path:
        """Where a model's weights are, wherever the workspace lies now."""
        return self._workspace.root / model.folder

    def named(self, name: str) -> RegisteredModel:
        """The model that the first digits of its digest name.

        Raises:
            ConfigError: None or several begin so.
        """
        found = [model for model in self.models() if len(name) >= 4 and model.sha256.startswith(name.lower())]
        if len(found) != 1:
            raise ConfigError(
                f"{name!a} names {'several models' if found else 'no model'} of this workspace",
                expected="at least four first digits of a digest, or a checkpoint folder",
                got=f"{len(found)} of {len(self.models())} models",
                remedy="`mammo model list CONFIG` shows them",
            )
        return found[0]

    # ------------------------------------------------------------------------------------------------------ changing

    def register(self, sha256: str, folder: Path, *, source: str) -> None:
        """Enters a candidate; one that is known stays what it is, and a candidate's folder is the newest."""
        with self.transaction():
            place = self._relative(folder)
            known = self._connection.execute("SELECT state FROM models WHERE sha256 = ?", (sha256,)).fetchone()
            if known is None:
                self._connection.execute(
                    "INSERT INTO models VALUES (?, ?, ?, ?, ?)", (sha256, ModelState.CANDIDATE, place, source, _now())
                )
                self._enter(ModelEvent(when_utc=_now(), who="", what=_REGISTERED, why=source, sha256=sha256))
            elif known[0] == ModelState.CANDIDATE:
                self._connection.execute("UPDATE models SET folder = ? WHERE sha256 = ?", (place, sha256))

    def promote(self, answer: PromotionAnswer, folder: Path, *, who: str, why: str) -> None:
        """Puts a registered model into use in place of the one that it was held against, which is retired.

        Raises:
            StoreBusy: Another model is in use by now than the one that it was held against.
            ValueError: The rules forbid it.
        """
        if not answer.is_allowed:
            raise ValueError("the rules forbid this promotion")
        with self.transaction():
            self._require_in_use(answer.in_use_sha256)
            self._put_into_use(answer.sha256, folder)
            self._enter(
                ModelEvent(
                    when_utc=_now(),
                    who=who,
                    what=_PROMOTED,
                    why=why,
                    sha256=answer.sha256,
                    replaced_sha256=answer.in_use_sha256,
                    answer=answer,
                )
            )

    def before(self) -> RegisteredModel:
        """The model that was in use before the one that is; going back twice goes back two.

        Raises:
            CheckpointError: There is none.
        """
        used = self.used()
        if len(used) < 2:
            raise CheckpointError(
                "There is no model to go back to",
                expected="one that was in use before",
                got="none was ever promoted" if not used else "the first that was promoted is in use",
                remedy="promote another model (`mammo model promote`)",
            )
        return self.named(used[-2].sha256)

    def use_thresholds(self, thresholds: SiteThresholds, used: tuple[InUse, ...], *, who: str, why: str) -> None:
        """Lets the model in use recall by a site's own thresholds; those before are what a rollback returns to.

        Args:
            thresholds: Of the model in use.
            used: What was in use when it was decided.
            who: Decided.
            why: In words.

        Raises:
            StoreBusy: Another model, or other thresholds, were put into use meanwhile.
        """
        with self.transaction():
            self._require_in_use(thresholds.model_sha256)
            self._require_unchanged(used)
            event = ModelEvent(
                when_utc=_now(), who=who, what=_THRESHOLDS, why=why, sha256=thresholds.model_sha256, thresholds=thresholds
            )
            self._enter(event)

    def roll_back(self, used: tuple[InUse, ...], *, who: str, why: str) -> None:
        """Puts what was in use before into use again: a model with the thresholds that it had then.

        Args:
            used: What was in use, and before that, when it was decided.
            who: Decided.
            why: In words.

        Raises:
            CheckpointError: Nothing was in use before.
            StoreBusy: Something else was put into use, or was rolled back, meanwhile.
        """
        with self.transaction():
            self._require_unchanged(used)
            sha256, replaced_sha256 = self.before().sha256, used[-1].sha256
            self._put_into_use(sha256, None)
            event = ModelEvent(
                when_utc=_now(), who=who, what=_ROLLED_BACK, why=why, sha256=sha256, replaced_sha256=replaced_sha256
            )
            self._enter(event)

    # ---------------------------------------------------------------------------------------------------------------

    def _require_in_use(self, sha256: str) -> None:
        in_use = self.in_use()
        if (in_use.sha256 if in_use else "") != sha256:
            raise _changed(in_use.sha256 if in_use else "")

    def _require_unchanged(self, used: tuple[InUse, ...]) -> None:
        now = self.used()
        if now != used:
            raise _changed(now[-1].sha256 if now else "")

    def _put_into_use(self, sha256: str, folder: Path | None) -> None:
        self._connection.execute("UPDATE models SET state = ? WHERE state = ?", (ModelState.RETIRED, ModelState.IN_USE))
        place = None if folder is None else self._relative(folder)
        changed = self._connection.execute(
            "UPDATE models SET state = ?, folder = coalesce(?, folder) WHERE sha256 = ?", (ModelState.IN_USE, place, sha256)
        )
        if changed.rowcount != 1:
            raise ValueError("the model is not registered")

    def _enter(self, event: ModelEvent) -> None:
        self._connection.execute(
            "INSERT INTO events (when_utc, who, what, why, sha256, replaced_sha256, answer) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                event.when_utc,
                event.who,
                event.what,
                event.why,
                event.sha256,
                event.replaced_sha256,
                None if (decided := event.answer or event.thresholds) is None else decided.model_dump_json(),
            ),
        )

    def _relative(self, folder: Path) -> str:
        root = self._workspace.root
        return Anchor(root, aliases=(root.resolve(),)).relative(folder.resolve()).as_posix()


def _decided(what: str, content: str) -> dict[str, PromotionAnswer | SiteThresholds]:
    """What a decision rested on, from the one column that holds it."""
    if what == _THRESHOLDS:
        return {"thresholds": SiteThresholds.model_validate_json(content)}
    return {"answer": PromotionAnswer.model_validate_json(content)}


def _changed(in_use: str) -> StoreBusy:
    return StoreBusy(
        "Another model, or other thresholds, were put into use meanwhile; nothing was changed",
        expected="what this decision was made against",
        got=f"model {in_use[:12]}" if in_use else "none",
        remedy="look at `mammo model list CONFIG`, then decide again against what is in use now",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
