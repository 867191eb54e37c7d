"""Results as Markdown: each floor of the plan as a row, then the runs behind it."""

from __future__ import annotations

import json
from typing import Any

from aeflow.deploy.benchmark_table import describe
from benchmarks.common import RESULTS
from benchmarks.speed.memory import FORMS
from benchmarks.speed.runs import DOCUMENTED, DRAWN, MAPS

GPU, MEMORY = RESULTS / "gpu.json", RESULTS / "memory.json"


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each floor its name, floor, aim, measurement or None, and unit."""
    ratios, training, pixel = found["ratios"], found["training"], found["pixel"]
    mapped, drawn = (
        ratios.get(name) for name in (f"{MAPS} / fastflow, whole", f"{DRAWN} / fastflow, {DOCUMENTED}, whole")
    )
    peer = training and training.get("fastflow")
    starts = {name: sorted(values)[len(values) // 2] for name, values in found["starts"].items()}
    return [
        _row("images/s, maps included, over anomalib FastFlow's fastest way", 5, 8, mapped, "x"),
        _row("the same, pictures written, over FastFlow's predict as documented", 4, 6, drawn, "x"),
        _row("scoring without maps over the bare encoder", 0.6, 0.75, found["bench"]["over_encoder"]["score"], ""),
        *memory_rows(json.loads(MEMORY.read_text())),
        _row(
            f"training, {training['epochs'] if training else 30} epochs, over FastFlow's",
            6,
            20,
            peer["seconds"] / training["aeflow"]["seconds"] if peer else None,
            "x",
        ),
        _row("single image, warm, batch 1", 40, 15, found["bench"]["single"]["median"], "ms", lower=True),
        _row("`aeflow --help`", 0.25, 0.2, starts["help"], "s", lower=True),
        _row("first score of a cold process", 1.9, 1.2, starts["first score"], "s", lower=True),
        _row(f"pixel AUROC + AUPRO of {pixel['maps']} maps 256x256", 10, 3, pixel["seconds"], "s", lower=True),
        _row("their memory", 500, 500, pixel["peak_mb"], "MiB", lower=True),
        *gpu_rows(json.loads(GPU.read_text()) if GPU.exists() else None),
    ]


def memory_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows measured by ``memory.py``, of the most images into each form of table."""
    rows = []
    for form in FORMS:
        images, most = max(found[form].items(), key=lambda item: int(item[0]))
        name = f"peak memory of scoring {int(images):,} images into {form} (`benchmarks.speed.memory`)"
        rows.append(_row(name, 0.4, 0.3, most["peak_mb"] / 1024, "GiB", lower=True))
    return rows


def gpu_rows(found: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the rows measured by ``gpu.py`` with the plan that ships, scoring in its best batch."""
    seconds, rates = None, []
    if found is not None:
        ways = {"train_bfloat16": True, "compiler": None, "hold": True}
        [seconds] = [row["seconds"] for row in found["training"] if ways.items() <= row.items()]
        ways = {"score_bfloat16": False, "compiler": None}
        rates = [row["images_per_second"] for row in found["scoring"] if ways.items() <= row.items()]
    return [
        _row("GPU: 100 epochs of preset `paper`", 120, 30, seconds, "s", lower=True),
        _row("GPU: scoring from decoded images", 2000, 8000, max(rates, default=None), "images/s"),
    ]


def floors_table(found: dict[str, Any]) -> str:
    """Return the floors and the machine, for a page."""
    return "\n".join([*floors(found), "", describe(found["machine"]), ""])


def floors(found: dict[str, Any]) -> list[str]:
    """Return the lines of the floors' table."""
    lines = ["| | floor | aim | measured | reached |", "|---|---|---|---|---|"]
    for row in rows(found):
        measured = "not measured"
        if row["measured"] is not None:
            number = row["measured"]
            measured = f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"
            measured += f" {row['unit']}"
        lines.append(f"| {row['what']} | {row['floor']} | {row['aim']} | {measured} | {row['reached'] or '-'} |")
    return lines


def as_table(found: dict[str, Any]) -> str:
    """Return the whole page."""
    lines = floors(found)
    lines += ["", f"{found['images']} images, {found['drawn']} where pictures are written; medians of repeats.", ""]
    lines += [
        "| program | images/s, whole process | scoring alone | peak memory, MiB | repeats |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["medians"].items():
        repeats = len(found["runs"][name])
        lines.append(f"| {name} | {one['whole']:.1f} | {one['alone']:.1f} | {one['peak_mb']:.0f} | {repeats} |")
    lines += ["", "| ratio | |", "|---|---|", *(f"| {name} | {value:.2f} |" for name, value in found["ratios"].items())]
    bench = found["bench"]
    lines += [
        "",
        f"Stages, ms an image, batch 1 and {bench['batch']}:",
        "",
        "| | 1 | p95 | batch | p95 |",
        "|---|---|---|---|---|",
    ]
    one, many = bench["stages"]["1"], bench["stages"][str(bench["batch"])]
    for name in one:
        numbers = (one[name]["median"], one[name]["p95"], many[name]["median"], many[name]["p95"])
        lines.append(f"| {name} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")
    rates = ", ".join(f"{name} {rate:.1f}" for name, rate in bench["rates"].items())
    lines += ["", f"Images/s in one process: {rates}.", ""]
    if training := found["training"]:
        own = f"{training['epochs']} epochs over {training['images']} images"
        text = f"Training, {own}: {training['aeflow']['seconds']:.0f} s, features, calibration and start included"
        if peer := training.get("fastflow"):
            text += (
                f"; FastFlow {peer['seconds']:.0f} s for its epochs alone, without validation, {peer['epoch']:.1f} s "
            )
            text += f"each: scaled from the faster of two over {peer['on']['images']} of the images"
        lines += [text + ".", ""]
    lines += [f"The whole benchmark took {found['seconds']:.0f} s. {describe(found['machine'])}", ""]
    return "\n".join(lines)


def _row(what: str, floor: float, aim: float, measured: float | None, unit: str, lower: bool = False) -> dict[str, Any]:
    """Return a floor's row, with what is reached; with ``lower`` less is better."""
    reached = None
    if measured is not None:
        sign = -1 if lower else 1
        reached = "aim" if sign * measured >= sign * aim else "floor" if sign * measured >= sign * floor else "no"
    return {"what": what, "floor": floor, "aim": aim, "measured": measured, "unit": unit, "reached": reached}
