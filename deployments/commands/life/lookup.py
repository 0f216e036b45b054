"""``mammo find``: from a patient to her pseudonyms, and back. What is typed is not kept; what is shown names a patient."""

from __future__ import annotations

import csv
import io
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.configuration import load_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, NoExamsFound, StoreError, error_name
from tasks.adapters.separators import csv_rows, fault_of
from tasks.adapters.workspace import Workspace, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.adapters.inbox.lines import LedgerLine

_LONGEST_VALUE = 1024


def find(
    config: Annotated[Path, typer.Argument(help="Config file of the workspace")],
    names: Annotated[
        list[str] | None, typer.Argument(help="The way back: images (I...), exams (E...) or patients (P...) by pseudonym")
    ] = None,
    accession: Annotated[bool, typer.Option("--accession", help="Ask for an accession number")] = False,
    patient: Annotated[bool, typer.Option("--patient", help="Ask for a PatientID, and its issuer")] = False,
    study: Annotated[bool, typer.Option("--study", help="Ask for a StudyInstanceUID")] = False,
    table: Annotated[
        Path | None, typer.Option(help="A CSV of ours with a column exam_id, such as predict/scores.csv; needs --out")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The CSV to make of --table, with whom each exam is of; mode 0600")] = None,
) -> None:
    """From a patient to her pseudonyms, asked at a prompt; from a pseudonym back to its source files.

    What is asked for is typed at a prompt, or comes by standard input, one line each; never on the command line, whose history
    keeps it. Pseudonyms are made under the workspace's key. Paths that are shown, and what --out writes, may name patients.
    """
    from tasks.adapters.lifecycle.way_back import Asked

    wanted = [kind for kind, is_wanted in zip(Asked, (accession, patient, study), strict=True) if is_wanted]
    ways = len(wanted) + bool(names) + (table is not None)
    if ways != 1 or (table is None) != (out is None):
        raise ConfigError(
            "Say one thing to look for",
            expected="--accession, --patient, --study, pseudonyms, or --table with --out",
            got=f"{ways} of them",
        )
    run = load_config(config)
    if wanted:
        _say_pseudonyms(run, wanted[0])
    elif table is not None and out is not None:
        _write_identities(run, table, out)
    else:
        _say_paths(run, names or [])


def _say_pseudonyms(run: RunConfig, asked: str) -> None:
    from tasks.adapters.lifecycle.way_back import Asked, lines_of_asked, site_key, stored_lines

    workspace = Workspace(run.workspace_dir)
    pseudonyms, lines = site_key(workspace), stored_lines(workspace)
    kind = Asked(asked)
    titles = {Asked.ACCESSION: "AccessionNumber", Asked.PATIENT: "PatientID", Asked.STUDY: "StudyInstanceUID"}
    value = _typed(titles[kind])
    if not value:
        raise ConfigError("Nothing was typed", expected=titles[kind])
    issuer = _typed("IssuerOfPatientID, or nothing") if kind is Asked.PATIENT else ""
    found = lines_of_asked(kind, value, issuer, lines, pseudonyms)
    if not found:
        raise NoExamsFound(
            f"No stored exam has this {titles[kind]}",
            expected="one that was ingested here, under this key",
            remedy="look at spelling and issuer; a refused file is in `mammo quarantine list`; a public set's ids are its own",
        )
    for line in _in_words(found):
        typer.echo(line)


def _say_paths(run: RunConfig, names: Sequence[str]) -> None:
    from tasks.adapters.lifecycle.way_back import lines_of_names, site_key, source_paths, stored_lines

    workspace = Workspace(run.workspace_dir)
    found = lines_of_names(names, stored_lines(workspace))
    if not found:
        raise NoExamsFound("This store knows no image, exam or patient of these names", expected="I, E or P and 24 hex digits")
    paths = source_paths(run, found, site_key(workspace))
    for line in found:
        # ascii(): a file name may hold a newline or a terminal's commands.
        place = ascii(paths[line.image_id].place) if line.image_id in paths else f"not in {run.ingest.place} any more"
        typer.echo(f"{line.image_id} of {line.exam_id}: {place}")


def _write_identities(run: RunConfig, table: Path, out: Path) -> None:
    from tasks.adapters.lifecycle.way_back import identities, lines_of_names, site_key, stored_lines, with_identities

    if out.exists():
        raise ConfigError(f"{out} is there already", expected="a name for a new file", remedy="give another")
    rows = _rows(table)
    workspace = Workspace(run.workspace_dir)
    exams = {row["exam_id"] for row in rows}
    known = identities(run, lines_of_names(exams, stored_lines(workspace)), site_key(workspace))
    text = io.StringIO()
    named = list(with_identities(iter(rows), known))
    writer = csv.DictWriter(text, list(named[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in named)
    try:
        write_atomically(out, text.getvalue().encode())
    except OSError as trouble:
        raise StoreError(f"{out} cannot be written", got=error_name(trouble), remedy="see that there is room") from trouble
    typer.echo(f"{out}: {len(named)} lines; of {len(exams & known.keys())} of {len(exams)} exams it is known whom they are of.")
    typer.echo("WARNING: this file names patients. It is readable by you only: keep it so, and delete it when it is done with.")


# ---------------------------------------------------------------------------------------------------------------------


def _typed(title: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(title, default="", show_default=False, err=True)).strip()[:_LONGEST_VALUE]
    try:
        return sys.stdin.readline(_LONGEST_VALUE).strip()
    except UnicodeDecodeError:  # not named: it holds what was typed
        raise ConfigError("Standard input is no text of this terminal's encoding", expected=title) from None


def _in_words(lines: Sequence[LedgerLine]) -> list[str]:
    """Patients, their exams and images."""
    images: dict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        images[line.patient_id, line.exam_id] += 1
    return [f"{patient} {exam} {count} images" for (patient, exam), count in sorted(images.items())]


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [{name: value or "" for name, value in row.items() if name} for row in csv_rows(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as unreadable:
        raise ConfigError(f"{table} cannot be read as CSV", got=fault_of(unreadable)) from None
    if not rows or "exam_id" not in rows[0]:
        raise ConfigError(f"{table} names no exams", expected="a header with exam_id, and a line", remedy="predict/scores.csv")
    return rows


def _harmless(value: str) -> str:
    """A cell that a spreadsheet would run as a formula becomes text; numbers stay numbers."""
    try:
        float(value)
    except ValueError:
        return f"'{value}" if value[:1] in "=+-@\t\r" and value else value
    return value
