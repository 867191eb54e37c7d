"""Tables of the page: what is left of the AUROC on altered copies, and where maps are hottest."""

from __future__ import annotations

from typing import Any

from benchmarks.common import BRAIN, CHEST, spread
from benchmarks.studies.altered_copies.copies import VERSIONS
from benchmarks.studies.altered_copies.simple import CONTROLS

GAUSSIAN = "Gaussian per position, stride 16, unit length"
METHODS = (GAUSSIAN, "default", "lungs, unknown", "aeflow-1")  # cheapest first
WHOLE = "whole image"
MISSING = "not measured"
GROUPS = (  # (set, what the masks mark, label of the images)
    (CHEST, "region", "abnormal"),
    (CHEST, "region", "normal"),
    (BRAIN, "lesion", "abnormal"),
)
PLACES = {"region": "lungs", "lesion": "tumour"}


def altered_table(altered: dict[str, Any], quality: dict[str, Any]) -> str:
    """Return the AUROC of each method on each version; whole images from the quality benchmark, seed 0.

    Where several seeds were trained: their mean and spread.
    """
    columns = [WHOLE, *VERSIONS]
    lines = [f"| test AUROC | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    of_chest = quality["sets"][CHEST]
    for name in (*reversed(METHODS), *CONTROLS):
        whole = next((row for row in of_chest.get(name, []) if row["seed"] == 0), altered[WHOLE].get(name))
        rows = [whole, *(altered[version].get(name) for version in VERSIONS)]
        lines.append(f"| {name} | {' | '.join(_area(row) for row in rows)} |")
    return "\n".join([*lines, ""])


def hottest_table(quality: dict[str, Any]) -> str:
    """Return where anomaly maps are hottest, of each method and set that has masks, first seed."""
    lines = [
        "| set, images | method | hottest point in the lungs or tumour | by chance | of the hottest 5 %, share there "
        "| at the border | by chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for data, target, side in GROUPS:
        for name, rows in quality["sets"].get(data, {}).items():
            found = next((row["localisation"] for row in rows if row.get("localisation")), None)
            if not found or not (of := found[target][side]):
                continue
            point, area, border = (of[key] for key in ("hottest_point", "hottest_area", "border"))
            cells = [_metric(point), f"{point['chance']:.2f}", _metric(area), _metric(border)]
            lines.append(
                f"| {data}, {side}, {PLACES[target]} | {name} | {' | '.join(cells)} | {border['chance']:.2f} |"
            )
    if len(lines) == 2:
        lines.append(f"| {MISSING} |" + " - |" * 6)
    return "\n".join([*lines, ""])


def _area(row: dict[str, Any] | None) -> str:
    """Return an AUROC, with its interval if it has one."""
    if row is None:
        return MISSING
    area, seeds = row["auroc"], list(row.get("seeds", {}).values())
    if len(seeds) > 1:
        return f"{spread(seeds)}, {len(seeds)} seeds"
    return f"{area['value']:.3f}" + (f" ({area['low']:.3f} to {area['high']:.3f})" if "low" in area else "")


def _metric(metric: dict[str, Any]) -> str:
    """Return a share with its interval, if it has one."""
    within = "" if metric["low"] is None else f" ({metric['low']:.2f} to {metric['high']:.2f})"
    return f"{metric['value']:.2f}{within}"
