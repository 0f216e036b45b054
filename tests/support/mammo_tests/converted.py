"""A set's excerpt converted into a folder, and what the folder says, in the words of the excerpts' expected answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tasks.adapters.datasets.catalogue import DATA_SETS
from tasks.adapters.datasets.conversion.convert import convert, policies_of


def converted(name: str, root: Path, target: Path, *policies: str, split: str = "deleaked", is_partial: bool = True) -> Any:
    """Converts the set below ``root``; gives the report."""
    data_set = DATA_SETS[name]
    chosen = policies_of(data_set.facts, policies)
    return convert(data_set, root, target, policies=chosen, split=split, is_partial=is_partial).content


def written(target: Path) -> dict[str, Any]:
    """What the written tables say."""
    split = {row["patient_id"]: row["split"] for row in rows_of(target / "split.csv")}
    subjects = rows_of(target / "subjects.csv")
    return {
        "images": [
            {
                "path": row["path"],
                "patient": row["patient_id"],
                "exam": row["exam"],
                "laterality": row["laterality"],
                "view": row["view"],
                "acquisition": row["acquisition"],
                "split": split.get(row["patient_id"]),
            }
            for row in subjects
            if not row["left_out"]
        ],
        "left_out": [{"path": row["path"], "why": row["left_out"]} for row in subjects if row["left_out"]],
        "breasts": [
            {
                "patient": row["patient_id"],
                "exam": row["study_instance_uid"],
                "laterality": row["laterality"],
                **{name: int(row[name]) if row[name] else None for name in ("benign", "malignant", "birads")},
                **{name: row[name] or None for name in ("label_source", "density", "finding_type")},
            }
            for row in rows_of(target / "labels.csv")
        ],
        "lesions": [
            {
                "path": row["path"],
                "finding": row["finding"] or None,
                "shape": row["shape"],
                **{name: int(row[edge]) for name, edge in zip(("top", "bottom", "left", "right"), _EDGES, strict=True)},
            }
            for row in rows_of(target / "boxes.csv")
        ],
    }


_EDGES = ("ymin", "ymax", "xmin", "xmax")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV; none of one that is not there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def in_order(lines: list[dict[str, Any]]) -> list[str]:
    """Lines whose order does not matter."""
    return sorted(json.dumps(line, sort_keys=True) for line in lines)
