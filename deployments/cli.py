"""The command ``mammo``: its verbs are the rows of ``verbs``. Exit codes are those of ``schemas.errors``.

A command imports what its own verb needs: a program that calls ``mammo infer`` for each exam waits for every module here.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.configuration import load_config
from deployments.verb import Verb
from deployments.verbs import GROUPS, VERBS
from schemas.config.run import RunConfig, Stage
from schemas.errors import MammoError, StoreError
from tasks.adapters.interpreter import SAFE_ENVIRONMENT, THREADS_SLEEP_SOON, path_without

EXIT_CODES = (
    "Exit codes: 0 done; 2 config or usage; 3 input (no exams, unreadable files, labels); 4 data checks failed; 5 store; "
    "6 checkpoint; 7 training; 8 too many files refused; 9 another system refuses us; 75 another run holds the store or the "
    "training, or a share or a system is away; 130 interrupted; 143 terminated; 1 anything else."
)

ConfigPath = Annotated[Path, typer.Argument(help="Config file; a shipped name such as demo.yaml works too")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the stage's report as JSON")]
Force = Annotated[list[Stage] | None, typer.Option("--force", help="Run this stage again although it is done; repeatable")]


def main() -> None:
    """Runs the command line; every error of ours is one message and its exit code."""
    os.environ.update(THREADS_SLEEP_SOON | os.environ | SAFE_ENVIRONMENT)
    os.umask(0o077)  # what it writes, and what it starts writes, is the owner's: masks and scores are of patients
    signal.signal(signal.SIGTERM, end_like_ctrl_c)
    try:
        made_app(verbs_asked_for(sys.argv[1:]))()
    except MammoError as error:
        typer.echo(f"mammo: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if (said := said_of_the_disk(error)) is None:
            raise
        typer.echo(f"mammo: {said}", err=True)
        sys.exit(StoreError.exit_code)
    except KeyboardInterrupt:
        typer.echo("mammo: interrupted; run the same command again to go on", err=True)
        sys.exit(130)


def said_of_the_disk(error: OSError) -> str | None:
    """What a person is told where a disk or the rights on it are the fault; None = something else is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room and run the same command again, what is finished is kept"
    if error.errno not in _OF_THE_DISK:
        return None
    return str(
        StoreError(
            "A file or folder cannot be read or written" if error.filename is None else f"{error.filename} cannot be used",
            expected="that this user may read and write the workspace, and that its disk is there",
            got=os.strerror(error.errno),
            remedy="run as the user whose workspace it is, or see to the disk; then run the same command again",
        )
    )


_OF_THE_DISK = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EIO,
        errno.EFBIG,  # `ulimit -f` of a batch system, or a FAT disk
        errno.ENXIO,  # unplugged
        errno.ENODEV,
        # A share whose server is away, by NFS, SMB or FUSE.
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EREMOTEIO,
        errno.ENOTCONN,
    }
)


def verbs_asked_for(arguments: Sequence[str]) -> tuple[Verb, ...]:
    """The row that a command line needs, that of its verb; without one all."""
    return tuple(verb for verb in VERBS if verb.name in arguments[:1]) or VERBS


def made_app(verbs: tuple[Verb, ...]) -> typer.Typer:
    """The command line of these verbs; its help shows them by group, in the order of ``GROUPS``."""
    app = typer.Typer(
        help="From a folder of DICOM screening exams to a trained, evaluated and explained GMIC. Research use only.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_no_verb_yet)  # with it one verb is asked for by its name, as one of several is
    for verb in sorted(verbs, key=lambda verb: GROUPS.index(verb.group)):
        if not verb.runs:
            app.command(verb.name, help=verb.help, rich_help_panel=verb.group)(_flow_command(verb))
            continue
        module, name = verb.runs.split(":")
        run = getattr(import_module(module), name)
        if isinstance(run, typer.Typer):
            app.add_typer(run, name=verb.name, help=verb.help, rich_help_panel=verb.group)
        else:
            app.command(verb.name, short_help=verb.help, rich_help_panel=verb.group)(run)
    return app


def told_by_flags(verb: Verb, given: Mapping[str, Any]) -> tuple[dict[str, object], dict[str, bool]]:
    """What a command line changes in the config, by dotted key, and the flow's parameters.

    Args:
        verb: The row.
        given: Its flags' values by parameter; None, and False of what has no ``--no-`` form, = not given.
    """
    changes: dict[str, object] = {}
    parameters: dict[str, bool] = {}
    for flag in verb.flags:
        value = given[flag.name]
        if not flag.config_key:
            parameters[flag.name] = value
        elif value or (flag.has_negative and value is not None):
            changes[flag.config_key] = str(value) if isinstance(value, Path) else value
            changes |= {flag.stands_for: None} if flag.stands_for else {}
    return changes, parameters


# ---------------------------------------------------------------------------------------------------------------------


def _no_verb_yet() -> None:
    pass


def _flow_command(verb: Verb) -> Callable[..., None]:
    """A function with the parameters that the row says, from which Typer makes the command."""

    def command(config: Path, as_json: bool, force: list[Stage] | None = None, **flags: Any) -> None:
        changes, parameters = told_by_flags(verb, flags)
        verb.require_forces(force or ())
        changes |= {"force": [stage.value for stage in force]} if force else {}
        _run(verb.name, load_config(config, changes), as_json=as_json, **parameters)

    options: dict[str, tuple[object, object]] = {"config": (ConfigPath, Parameter.empty)}
    if verb.can_force:
        options["force"] = (Force, None)
    for flag in verb.flags:
        names = f"{flag.option}/--no-{flag.option.removeprefix('--')}" if flag.has_negative else flag.option
        is_switch = flag.kind is bool and not flag.has_negative
        kind = bool if is_switch else flag.kind | None
        options[flag.name] = (Annotated[kind, typer.Option(names, help=flag.help)], False if is_switch else None)
    options["as_json"] = (AsJson, False)
    command.__signature__ = Signature(  # type: ignore[attr-defined]  # read by ``inspect``, and so by Typer
        [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ]
    )
    command.__annotations__ = {name: annotation for name, (annotation, _) in options.items()}
    return command


def _run(verb: str, config: RunConfig, *, as_json: bool, **parameters: bool) -> None:
    # Late: who asks for one verb, for its help, or for a verb without a flow has no need of these.
    from deployments.console import shown_progress
    from deployments.local_run import finished_report, run_verb
    from deployments.server.prefect_server import prefect_server
    from deployments.words import prediction_text, summary_text
    from schemas.reports.pages import PredictReport
    from tasks.adapters.inbox.source_folder import require_apart

    report = finished_report(verb, config)
    if report is not None:
        typer.echo(f"Finished before: {verb} has nothing to do (--force {verb} does it again)", err=True)
    else:
        require_apart(config.workspace_dir, config.ingest.source_dir)
        with prefect_server(config.workspace_dir) as ui_address, shown_progress():
            typer.echo(f"Prefect UI: {ui_address}", err=True)
            report = run_verb(verb, config, **parameters)
    typer.echo(report.model_dump_json(indent=1) if as_json else summary_text(verb, report))
    if not as_json and isinstance(report, PredictReport):
        typer.echo(prediction_text(report))


def end_like_ctrl_c(number: int, frame: object) -> None:
    """A signal to end is an exception like Ctrl-C, so that what is open is closed and children are stopped."""
    raise SystemExit(128 + number)


app: typer.Typer
"""The whole command line; made when somebody asks for it."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> typer.Typer:
        if name != "app":
            raise AttributeError(name)
        globals()["app"] = made_app(VERBS)
        return globals()["app"]


if __name__ == "__main__":  # as `python -m deployments.cli`, which puts the working directory first
    sys.path[:] = path_without(sys.path, str(Path.cwd()), str(Path(__file__).parents[1]))
    main()
