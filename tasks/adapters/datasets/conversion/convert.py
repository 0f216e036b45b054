"""A public data set as downloaded becomes what `mammo pipeline` reads, with its counts beside the published ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError, DatasetError, error_name
from tasks.adapters.datasets.conversion.counting import Comparison, compare, totals
from tasks.adapters.datasets.conversion.dicom_copies import sop_uid_of, write_dicom_copy
from tasks.adapters.datasets.conversion.marking import marks_of
from tasks.adapters.datasets.conversion.output import COPIES_FOLDER, require_ours, whole_output
from tasks.adapters.datasets.published.breast_rules import used_breasts
from tasks.adapters.datasets.published.reading import NOT_NAMED, NOT_THERE, DataSet, Facts, Image, Policies, Reading
from tasks.adapters.datasets.published.tree import DICOM_ENDINGS, Tree, is_picture

_OF_ANOTHER: Final = re.compile(r"^same film as .*")
SPLITS: Final = ("deleaked", "official", "own")
"""A patient in both parts of the set's own split trains, or tests; or patients are divided by the config's seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a conversion wrote and counted."""

    content: Mapping[str, object]
    page: Sequence[str]
    differences: Sequence[Comparison]


def policies_of(facts: Facts, given: Sequence[str]) -> dict[str, str]:
    """The value in force of each policy, from ``KEY=VALUE`` texts.

    Raises:
        ConfigError: A set has no such policy, or the policy no such value.
    """
    chosen = {name: policy.values[0] for name, policy in facts.policies.items()}
    for text in given:
        name, _, value = text.partition("=")
        if name not in chosen or value not in facts.policies[name].values:
            known = "; ".join(f"{key}={' or '.join(policy.values)}" for key, policy in facts.policies.items())
            raise ConfigError(
                f"{facts.title} has no policy {text!r}",
                expected=known or "none: the set leaves nothing to choose",
                remedy="`mammo dataset --list` names the policies of each set",
            )
        chosen[name] = value
    return chosen


def convert(
    data_set: DataSet, root: Path, target: Path, *, policies: Policies, split: str = "deleaked", is_partial: bool = False
) -> Converted:
    """Reads the set below ``root`` and writes the folder ``target``; nothing below ``root`` is changed.

    Raises:
        ConfigError: The folders lie in one another, ``target`` holds other things, or there is no such split.
        DatasetError: A file is not there or not as it was published. Nothing is written then.
    """
    require_outside(root, target)
    require_ours(target)
    tree = Tree(root=root, facts=data_set.facts, is_partial=is_partial)
    reading = _read(data_set, tree, policies)
    if not reading.images and not reading.breasts:
        tree.refuse_missing(data_set.facts.needs[-1])
    _require_one_line_each(reading, data_set.facts)
    reading.faults.update({f"line of {name} that stands there before: read once": n for name, n in tree.repeated.items()})
    compared = compare(data_set.facts.counts, reading.counts, is_partial=is_partial)
    _leave_out_unnamed(tree, reading)
    missing = [] if reading.is_without_pixels else _leave_out_missing(tree, reading)
    images, split_of_patient = _divided(reading, split, data_set.facts)
    reading.images = images
    reading.breasts = used_breasts(images, reading.breasts)
    with whole_output(target) as output:
        output.write_subjects(images)
        output.write_labels(reading.breasts)
        if split_of_patient:
            output.write_split(split_of_patient)
        lesions = 0
        with output.boxes() as boxes:
            for mark in marks_of(tree, data_set, reading):
                output.add_mark(boxes, mark, sop_uid_of(tree, mark.image.path))
                lesions += 1
        copied = [image for image in images if image.left_out is None and is_picture(image.path)]
        for image in copied:
            write_dicom_copy(tree, image, output.stage / COPIES_FOLDER)
        output.write_config(data_set, root.absolute(), target.absolute(), has_copies=bool(copied))
        converted = _report(data_set.facts, reading, policies, split, compared, missing, lesions)
        output.write_report(converted.content, converted.page)
    return converted


def require_outside(root: Path, target: Path) -> None:
    """Says that a folder to write into lies in the set's.

    Raises:
        DatasetError: There is no such set.
        ConfigError: The output lies inside it.
    """
    if not root.is_dir():
        raise DatasetError(f"There is no folder {root}", expected="the folder of the set as downloaded")
    if target.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            "The output lies inside the set's folder, which is never changed",
            expected="two folders, none of them inside the other",
            remedy="give another --out",
        )


def _read(data_set: DataSet, tree: Tree, policies: Policies) -> Reading:
    failure: str
    try:
        return data_set.read(tree, policies)
    except OSError as trouble:
        failure = f"{error_name(trouble)} at {trouble.filename}"
    raise DatasetError(
        f"A file of {data_set.facts.title} cannot be read",
        expected="files that you may read, on a disk that works",
        got=failure,
        remedy=f"correct its rights, or download it again ({data_set.facts.get})",
    )


def _require_one_line_each(reading: Reading, facts: Facts) -> None:
    """Equal lines have become one: an image that is named twice still is of two patients, exams, sides or views."""
    twice = [path for path, count in Counter(image.path for image in reading.images).items() if count > 1]
    if twice:
        raise DatasetError(
            f"The tables name {len(twice)} images twice, and say different things of them",
            expected="one line for each image",
            got=f"two for {twice[0]}" + (" and others" if len(twice) > 1 else ""),
            remedy=f"download the tables again ({facts.get})",
        )


def _leave_out_unnamed(tree: Tree, reading: Reading) -> None:
    """DICOM files that the set's tables do not name are left out by name, so that nobody takes them for forgotten."""
    named = {image.path for image in reading.images}
    reading.images += [
        Image(path=path, patient="", exam="", laterality="", view="", left_out=NOT_NAMED)
        for path in tree.files
        if path.casefold().endswith(DICOM_ENDINGS) and path not in named and not reading.helpers(path)
    ]


def _leave_out_missing(tree: Tree, reading: Reading) -> list[str]:
    """Marks images whose file is not there; a half download is refused unless it is meant."""
    missing = [image.path for image in reading.images if image.left_out is None and image.path not in tree.present]
    if missing and not tree.is_partial:
        raise DatasetError(
            f"{len(missing)} of {len(reading.images)} images that the tables name are not below {tree.root}",
            expected="the whole set",
            got=f"no {missing[0]}" + (" and others" if len(missing) > 1 else ""),
            remedy=f"download them ({tree.facts.get}), or say --partial if a part is meant",
        )
    absent = set(missing)
    reading.images = [replace(image, left_out=NOT_THERE) if image.path in absent else image for image in reading.images]
    return missing


def _divided(reading: Reading, split: str, facts: Facts) -> tuple[list[Image], dict[str, str]]:
    """The images with the split in force, and each patient's."""
    if split not in SPLITS:
        raise ConfigError(f"There is no split {split!r}", expected=", ".join(SPLITS))
    has_own = any(image.split for image in reading.images)
    if split == "own":
        return [replace(image, split=None) for image in reading.images] if has_own else reading.images, {}
    if split == "official" and not has_own:
        raise ConfigError(f"{facts.title} has no official split", expected="--split own, or none named")
    images = reading.images
    if split == "official":
        images = [replace(image, split="test") if image.patient in reading.patients_in_both else image for image in images]
    return images, {image.patient: image.split for image in images if image.split and image.is_of_the_set}


def _report(
    facts: Facts,
    reading: Reading,
    policies: Policies,
    split: str,
    compared: Sequence[Comparison],
    missing: Sequence[str],
    lesions: int,
) -> Converted:
    counted = totals(reading, reading.images, lesions)
    why = Counter(_OF_ANOTHER.sub("same film as another", image.left_out) for image in reading.images if image.left_out)
    faults = {name: count for name, count in reading.faults.items() if count}
    differences = [comparison for comparison in compared if not comparison.is_met]
    content = {
        "dataset": facts.name,
        "title": facts.title,
        "licence": facts.licence,
        "release": facts.release,
        "may_share_data": facts.shares_data,
        "may_share_weights": facts.shares_weights,
        "policies": dict(policies),
        "split": split,
        "counts": counted,
        "published": [
            {
                "name": each.count.name,
                "published": list(each.count.published),
                "found": each.found,
                "source": each.count.source,
                "compared": each.is_compared,
                "equal": each.found in each.count.published,
            }
            for each in compared
        ],
        "faults": faults,
        "left_out": dict(why.most_common()),
        "remarks": reading.remarks,
        "not_downloaded": len(missing),
        "not_downloaded_first": list(missing[:20]),
    }
    return Converted(
        content=content, page=_page(facts, content, compared, faults, why, reading.remarks), differences=differences
    )


def _page(
    facts: Facts,
    content: Mapping[str, object],
    compared: Sequence[Comparison],
    faults: Mapping[str, int],
    why: Mapping[str, int],
    remarks: Sequence[str],
) -> list[str]:
    counted = content["counts"]
    lines = [f"# {facts.title}", "", f"Licence: {facts.licence}. Release: {facts.release}. Source: {facts.source}.", ""]
    lines += [f"**{facts.terms}**", ""] if facts.terms else []
    lines += [*remarks, ""] if remarks else []
    lines += ["| what is written | count |", "|---|---|"]
    if isinstance(counted, Mapping):
        lines += [f"| {name} | {value} |" for name, value in counted.items()]
    if compared:
        lines += ["", "| published count | published | found | source |", "|---|---|---|---|"]
        lines += [
            f"| {each.count.name}{'' if each.is_met else ' **differs**'} | {each.published} "
            f"| {each.found if each.is_compared else f'{each.found} (a part)'} | {each.count.source} |"
            for each in compared
        ]
    for title, table in (("rule applied", faults), ("left out because", why)):
        if table:
            lines += ["", f"| {title} | count |", "|---|---|", *(f"| {name} | {count} |" for name, count in table.items())]
    return lines
