"""What gpu_day.py heard, as one page of Markdown. Knows the standard library only; not a benchmark itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.network.model_table import roofline_share, summary

Record = dict[str, Any]


def day_table(records: Sequence[Record]) -> str:
    """Every section of which there are records."""
    parts: dict[str, list[Record]] = {}
    for record in records:
        parts.setdefault(record["part"], []).append(record)
    network = parts.get("network", [])
    sections = [
        machine_section(parts.get("machine", [])),
        correctness_section([one for one in parts.get("correctness", []) if "check" in one]),
        loader_section([one for one in parts.get("loader", []) if "reader" in one]),
        step_section([one for one in parts.get("step", []) if "step" in one], network),
        stages_section([one for one in parts.get("step", []) if one.get("step") == "stages"]),
        f"## The network\n{summary(network)}" if network else "",
        rows_section(parts.get("rows", [])),
        ends_section(records),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def machine_section(records: Sequence[Record]) -> str:
    """One line."""
    if not records:
        return ""
    found = records[0]
    wheels = f", {found['wheels']} wheels brought along" if "wheels" in found else ""
    return f"{found.get('card', 'no card')}, {found['cores']} cores, Python {found['python']}{wheels}; plan {found['plan']}."


def correctness_section(records: Sequence[Record]) -> str:
    """Right first: nothing below counts if a line here says NO."""
    words = {True: "yes", False: "NO", None: "-"}
    rows = [(one["check"], words[one["holds"]], one["said"].replace("|", "/"), f"{one['s']:.1f}") for one in records]
    return table("## Is it right?", ("check", "holds", "found", "s"), rows)


def loader_section(records: Sequence[Record]) -> str:
    """From the store to the device; the busiest thread bounds one process."""
    rows = [
        (one["reader"], one["threads"], one["end"], "", "")
        if "end" in one
        else (
            one["reader"],
            one["threads"],
            f"{one['images_per_s']:.0f}",
            f"{one['cpu_ms_an_image']:.2f}",
            f"{one['busiest_thread_ms_an_image']:.2f}",
        )
        for one in records
    ]
    return table("## The loader", ("reader", "threads", "images/s", "CPU ms an image", "busiest thread, ms an image"), rows)


def step_section(records: Sequence[Record], network: Sequence[Record]) -> str:
    """The product's own step, with the share of the roofline that the card's measured rates give it."""
    counted = next((one for one in records if one.get("way") == "counted"), None)
    rates = next((one for one in network if "matmul" in one), None)
    rows = []
    for one in records:
        if one["step"] == "stages" or one.get("way") == "counted":
            continue
        share = "-"
        if counted is not None and rates is not None and "images_per_s" in one and one["step"] != "scored":
            share = roofline_share(one["images_per_s"], {**counted, "precision": precision_of(one)}, rates)
        said = one.get("end", "out of memory") if "images_per_s" not in one else f"{one['images_per_s']:.1f}"
        gib = f"{one['peak_gib']:.2f}" if one.get("peak_gib") else ""
        rows.append((one["step"], one.get("way", "-"), one.get("batch", ""), said, gib, share))
    return table("## The product's own step", ("what", "way", "images", "images/s", "peak GiB", "of the eager roofline"), rows)


def precision_of(record: Record) -> str:
    """By the way's name: fed steps run in bf16."""
    return {"tf32": "tf32", "ieee-fp32": "fp32"}.get(record.get("way", ""), "bf16")


def stages_section(records: Sequence[Record]) -> str:
    """Device time in the step."""
    said = [one for one in records if "forward_ms" in one]
    whole_ms = sum(one["forward_ms"] + one["backward_ms"] for one in said)
    rows = [
        (
            one["way"],
            f"{one['forward_ms']:.2f}",
            f"{one['backward_ms']:.2f}",
            f"{(one['forward_ms'] + one['backward_ms']) / whole_ms:.1%}" if whole_ms else "-",
        )
        for one in said
    ]
    found = table("## The stages in the step", ("stage", "forward ms", "backward ms", "share"), rows)
    counted = next((one for one in records if one.get("way") == "counted"), None)
    if counted is None:
        return found
    return (
        f"{found}\n\nCounted of a step of {counted['batch']} images: {counted['flop_per_image'] / 1e9:.1f} Gflop and "
        f"{counted['bytes_per_image'] / 1e9:.2f} GB an image, {counted['kernels']} operations."
    )


def rows_section(records: Iterable[Record]) -> str:
    """Rows of Table 1, and epochs of the row that was not finished."""
    records = list(records)
    rows = [
        (
            one["row"],
            one["epochs"],
            " ".join(f"{loss:.3f}" for loss in one["loss"]),
            interval(one["test_malignant"]),
            interval(one["test_benign"]),
            f"{one['train_images_per_s']:.1f}",
            f"{one['score_images_per_s']:.1f}",
            f"{one['memory_mib']:.0f}",
        )
        for one in records
        if "row" in one
    ]
    header = ("row", "epochs", "loss", "test malignant AUROC", "benign", "images/s trained", "scored", "MiB")
    found = table("## Rows of Table 1 on phantoms", header, rows)
    begun = {one["epoch_of"] for one in records if "epoch_of" in one} - {one["row"] for one in records if "row" in one}
    unfinished = [
        f"\n{name}: not scored; loss of its epochs "
        + " ".join(f"{one['train_loss']:.3f}" for one in records if one.get("epoch_of") == name)
        for name in sorted(begun)
    ]
    return "\n".join(filter(None, [found, *unfinished]))


def interval(values: Sequence[float | None]) -> str:
    """A value with its ends."""
    value, low, high = values
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def ends_section(records: Sequence[Record]) -> str:
    """What did not end well, and how long all of it took."""
    lines = [f"* {one['part']}: {one['end']}" for one in records if "end" in one and not {"reader", "step", "case"} & set(one)]
    took = next((f"* all of it: {one['took_s']:.0f} s" for one in records if "took_s" in one and one["part"] == "end"), None)
    return "\n".join([*lines, *([took] if took else [])])


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown; nothing if there are no rows."""
    if not rows:
        return ""
    lines = [title, "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])
