"""``mammo dataset``: a public data set as downloaded becomes what `mammo pipeline` reads, its counts beside the published."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import ConfigError, DatasetError

Name = Annotated[str | None, typer.Argument(help="Of the data set; --list names them")]
Root = Annotated[Path | None, typer.Argument(help="The folder of the set as downloaded; nothing below it is changed")]
Out = Annotated[Path | None, typer.Option("--out", help="Where tables, masks, config and report go")]
Listed = Annotated[bool, typer.Option("--list", help="Name every set with licence, size, what it needs and where it is got")]
Probe = Annotated[bool, typer.Option("--probe", help="Show tags, sizes and three marks over their images; --out: as PNG, too")]
PolicyOption = Annotated[list[str] | None, typer.Option("--policy", help="KEY=VALUE, a choice of the set; repeatable")]
SplitOption = Annotated[
    str,
    typer.Option("--split", help="The set's own: deleaked (who is in both parts trains) or official (tests); or own: by seed"),
]
Partial = Annotated[bool, typer.Option("--partial", help="A part was downloaded: count what is not there, do not refuse it")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON")]


def dataset(
    name: Name = None,
    root: Root = None,
    out: Out = None,
    is_list: Listed = False,
    is_probe: Probe = False,
    policy: PolicyOption = None,
    split: SplitOption = "deleaked",
    is_partial: Partial = False,
    as_json: AsJson = False,
) -> None:
    """A public data set as downloaded becomes what pipeline reads, its counts compared with the published ones.

    Writes subjects, labels, boxes, masks, split, a config that runs as it is, and a report; --list names the sets.
    Ends with exit code 3 if a count differs from the published one, unless --partial says that a part was downloaded.
    """
    from tasks.adapters.datasets.catalogue import data_set_named  # late: numpy and OpenCV take half a second
    from tasks.adapters.datasets.conversion.convert import convert, policies_of, require_outside
    from tasks.adapters.datasets.conversion.probe import probe
    from tasks.adapters.datasets.published.tree import Tree

    if is_list:
        _show_sets(name, as_json=as_json)
        return
    if name is None or root is None:
        raise ConfigError("The set or its folder is not named", expected="mammo dataset NAME ROOT --out DIR, or --list")
    data_set = data_set_named(name)
    policies = policies_of(data_set.facts, policy or ())
    if is_probe:
        tree = Tree(root=_folder(root), facts=data_set.facts, is_partial=True)
        if out is not None:
            require_outside(root, out)
        for line in probe(data_set, tree, policies, out):
            typer.echo(line)
        return
    if out is None:
        raise ConfigError("No folder is named to write into", expected="--out DIR")
    done = convert(data_set, _folder(root), out, policies=policies, split=split, is_partial=is_partial)
    typer.echo(json.dumps(done.content, indent=1, ensure_ascii=False) if as_json else "\n".join(done.page))
    if done.differences and not is_partial:
        raise DatasetError(
            f"{len(done.differences)} counts differ from those that were published; {out} holds what was read",
            expected="; ".join(f"{each.count.name} {each.published} ({each.count.source})" for each in done.differences[:5]),
            got="; ".join(f"{each.count.name} {each.found}" for each in done.differences[:5]),
            remedy=f"download what lacks ({data_set.facts.get}), or say --partial if a part is meant",
        )
    if not as_json:
        typer.echo(f"\nNext: mammo pipeline {out / 'config.yaml'}")


def _folder(root: Path) -> Path:
    if not root.is_dir():
        raise DatasetError(
            f"There is no folder {root}",
            expected="the folder of the set as downloaded",
            got="a file" if root.exists() else None,
        )
    return root


def _show_sets(name: str | None, *, as_json: bool) -> None:
    from tasks.adapters.datasets.catalogue import DATA_SETS, data_set_named

    facts = [each.facts for each in ([data_set_named(name)] if name else DATA_SETS.values())]
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in facts], indent=1, ensure_ascii=False))
        return
    for each in facts:
        typer.echo(f"{each.name}: {each.title}")
        typer.echo(f"  licence {each.licence}")
        typer.echo(f"  size    {each.size}; {each.release}")
        typer.echo(f"  needs   {', '.join(each.needs)}")
        typer.echo(f"  get     {each.get}")
        for key, policy in each.policies.items():
            typer.echo(f"  policy  {key}={' or '.join(policy.values)}: {policy.meaning}")
