"""The measurements of bench_model_gpu.py as Markdown. Not a benchmark itself."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
"""What a child told of one measurement, with the name of its case."""


def summary(records: list[Record]) -> str:
    """All measurements as Markdown."""
    machine = next((record for record in records if "matmul" in record), {})
    reference = {work: best_rate(records, f"{work} reference fp32") for work in ("training", "inference")}
    lines = [
        f"\nMeasured rates: {machine or 'none'}\n",
        "| case | batch | images/s | best / best of reference | peak GiB | of matmul rate | of the eager roofline |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        if "images_per_s" in record:
            first = reference[record["case"].split()[0].strip(",")]
            ratio = f"{record['images_per_s'] / first:.2f}" if first else "-"
            rate = machine.get("matmul", {}).get(record["precision"])
            used = f"{record['flop_per_s'] / rate:.1%}" if rate else "-"
            cells = (record["case"], record["batch"], f"{record['images_per_s']:.2f}", ratio, f"{record['peak_gib']:.2f}", used)
            counted = {"flop_per_image": record["flop_per_s"] / record["images_per_s"], **record}
            cells += (roofline_share(record["images_per_s"], counted, machine) if "bytes_per_image" in record else "-",)
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        elif "end" in record or "oom" in record:
            lines.append(f"| {record['case']} | {record.get('batch', '-')} | {record.get('end', 'out of memory')} | | | | |")
    stages = [record for record in records if "stage" in record]
    if stages:
        whole_ms = sum(record["ms"] for record in stages)
        lines += ["", f"Inference, batch {stages[0]['batch']}, by stage:", ""]
        lines += ["| stage | ms | share | TFLOP/s | GB/s at least | bound by |", "|---|---|---|---|---|---|"]
        for record in stages:
            rates = f"{record['flop'] / record['ms'] / 1e9:.3f} | {record['bytes'] / record['ms'] / 1e6:.1f}"
            cells = f"{record['stage']} | {record['ms']:.3f} | {record['ms'] / whole_ms:.2%}"
            lines.append(f"| {cells} | {rates} | {bound(record, machine)} |")
        found_ms = sum(record["ms"] for record in stages if record["stage"] in ("ROI search", "patch gather"))
        lines += ["", f"ROI search and patch gather: {found_ms / whole_ms:.2%} of the forward pass."]
    return "\n".join(lines)


def best_rate(records: list[Record], case: str) -> float:
    """Images a second at the best batch of a case; 0 if it has none."""
    return max(
        (float(record["images_per_s"]) for record in records if record["case"] == case and "images_per_s" in record),
        default=0.0,
    )


def roofline_share(images_per_s: float, counted: Record, machine: Record) -> str:
    """Part of what the card's own measured rates would allow, if every eager operation read and wrote its tensors once.

    Layers that are fused move less, and may stand above it.
    """
    if "matmul" not in machine:
        return "-"
    compute_s = counted["flop_per_image"] / machine["matmul"][counted["precision"]]
    memory_s = counted["bytes_per_image"] / machine["copy_bytes_per_s"]
    return f"{images_per_s * max(compute_s, memory_s):.0%}"


def bound(record: Record, machine: Record) -> str:
    """What the stage's time is nearest to: arithmetic, memory traffic, or neither (many small kernels)."""
    if not machine:
        return "-"
    compute_ms = 1e3 * record["flop"] / machine["matmul"][record["precision"]]
    memory_ms = 1e3 * record["bytes"] / machine["copy_bytes_per_s"]
    if max(compute_ms, memory_ms) < record["ms"] / 4:
        return f"launches and small kernels ({max(compute_ms, memory_ms) / record['ms']:.0%} of the nearest roof)"
    return (
        f"{'arithmetic' if compute_ms > memory_ms else 'memory'} ({max(compute_ms, memory_ms) / record['ms']:.0%} of that roof)"
    )
