"""Tables and picture of the label curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.common import spread
from benchmarks.studies.label_curve.end_to_end import NAME


def column(rows: list[dict[str, Any]], key: str, **where: Any) -> list[float]:
    """Return one column of the rows that fit."""
    return [row[key] for row in rows if key in row and all(row[name] == value for name, value in where.items())]


def cell(rows: list[dict[str, Any]], key: str, **where: Any) -> str:
    """Return mean and spread of a column."""
    values = column(rows, key, **where)
    return spread(values) if len(values) > 1 else f"{values[0]:.3f}" if values else "-"


def measured(rows: list[dict[str, Any]], name: str) -> list[str]:
    """Return the name of a column if any row has it."""
    return [name] if any(name in row for row in rows) else []


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    labels, pool, kinds = results["labels"], results["pools"], results["kinds"]
    names = ["auroc", "logistic regression", "shared-covariance Gaussians", *measured(labels, NAME)]
    measured_on = f"Test AUROC on {results['set']}, mean ± standard deviation over {results['draws']} draws."
    lines = [
        f"{measured_on} {results['machine']}.",
        "",
        f"| labels | **aeflow** | {' | '.join(names[1:])} |",
        "|---" * (1 + len(names)) + "|",
    ]
    for k in dict.fromkeys(row["k"] for row in labels):
        lines.append(f"| {'all' if k is None else k} | " + " | ".join(cell(labels, n, k=k) for n in names) + " |")
    if pool:
        lines += pool_table(pool)
    if kinds:
        lines += [
            "",
            "Ten labels of one kind:",
            "",
            "| taught | tested on bacteria | tested on virus |",
            "|---|---|---|",
        ]
        for taught in ("bacteria", "virus", None):
            cells = [cell(kinds, "auroc", taught=taught, asked=asked) for asked in ("bacteria", "virus")]
            lines.append(f"| {taught or 'nothing'} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def pool_table(pool: list[dict[str, Any]]) -> list[str]:
    """Return the lines on pools, from the known normals' own scanner and from another."""
    steps = [f"normal against pool, {step}" for step in ("one step", "two steps")]
    more = measured(pool, NAME)
    others, titles = [*steps, *more], ["one step", "two steps", *more]
    draws = len({row["draw"] for row in pool})
    lines = [
        "",
        f"An unlabelled pool: {pool[0]['normals']} train normals taken out of the known ones, and a share of abnormal "
        f"images; {draws} draw{'s' * (draws > 1)}.",
        "",
        f"| {' | '.join(['share', 'estimated', 'pool used', '**aeflow, no label**', '**10 labels**', *titles])} |",
        "|---" * (5 + len(titles)) + "|",
    ]
    for share in dict.fromkeys(row["share"] for row in pool):
        where = {"share": share, "scanner": "same", "k": 0}
        cells = [
            cell(pool, "estimated", **where),
            f"{sum(column(pool, 'used', **where))} of {len(column(pool, 'used', **where))}",
        ]
        cells += [cell(pool, "auroc", **where), cell(pool, "auroc", **{**where, "k": 10})]
        lines.append(f"| {share:.0%} | " + " | ".join(cells + [cell(pool, name, **where) for name in others]) + " |")
    none = [cell(pool, "without_pool", share=0.0, scanner="same", k=k) for k in (0, 10)]
    lines += [
        f"| no pool | - | - | {none[0]} | {none[1]} |" + " - |" * len(others),
        "",
        "The pool, or a third of it, from another scanner (contrast, crop and compression changed), no label:",
        "",
        "| share | from the other scanner | estimated | pool used | aeflow |",
        "|---|---|---|---|---|",
    ]
    for share in (0.0, 0.1):
        for scanner, part in (("other", "all"), ("mixed", "a third")):
            where = {"share": share, "scanner": scanner}
            used = f"{sum(column(pool, 'used', **where))} of {len(column(pool, 'used', **where))}"
            estimated, value = (cell(pool, name, **where) for name in ("estimated", "auroc"))
            lines.append(f"| {share:.0%} | {part} | {estimated} | {used} | {value} |")
    return lines


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw AUROC over labels and over the pool's share, with bands of one standard deviation."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    labels = [row for row in results["labels"] if row["k"]]
    for name, title in (("auroc", "aeflow"), *((n, n) for n in ("logistic regression", "shared-covariance Gaussians"))):
        band(left, labels, name, "k", title, bool(name == "auroc"))
    for value in column(results["labels"], "auroc", k=0):  # none where pools alone were measured
        left.axhline(value, color="grey", ls=":", label="aeflow, normals only")
    left.set(xscale="log", xlabel="labelled abnormal images", ylabel="test AUROC")
    pool = [row for row in results["pools"] if row["scanner"] == "same"]
    right.set_visible(bool(pool))
    for k, title in ((0, "aeflow, no label"), (10, "aeflow, 10 labels")):
        band(right, [row for row in pool if row["k"] == k], "auroc", "share", title, k == 0)
    for step in ("one step", "two steps"):
        name = f"normal against pool, {step}"
        band(right, [row for row in pool if row["k"] == 0 and row["share"] > 0], name, "share", name, False)
    right.set(xlabel="abnormal share of the unlabelled pool")
    for axes in (left, right):
        axes.set_ylim(0.8, 1)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def band(axes: Any, rows: list[dict[str, Any]], name: str, x: str, label: str, ours: bool) -> None:
    """Draw means with a band of one standard deviation."""
    at = sorted({row[x] for row in rows if name in row})
    values = [column(rows, name, **{x: value}) for value in at]
    mean, std = np.array([np.mean(v) for v in values]), np.array([np.std(v) for v in values])
    (line,) = axes.plot(at, mean, lw=2.5 if ours else 1.2, label=label, marker="o", ms=3)
    axes.fill_between(at, mean - std, mean + std, color=line.get_color(), alpha=0.15, lw=0)
