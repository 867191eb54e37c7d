"""Results as Markdown: each row's change of every figure, and how well the proxies ranked the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.ablation.rows import DEFAULT
from benchmarks.ablation.store import BOTH, PROXIES, TEST

COLUMNS = (*PROXIES, TEST)
ABOUT = """AUROC. The default's row has its means over the seeds, ± their standard deviation; every other row has the
change against the default of the same seeds, or against the row that it names (it was measured when that was the
default), ± its standard deviation where there are several. Proxies are from train
folders: held-out normals ("clean"), together with copies of them as from another scanner ("shifted"), against
train-side abnormal images of patients who are not in the test split ("abnormal") and against the held-out normals with
a synthetic anomaly each ("synthetic"); value is the mean of the four. The test column decides nothing. A position's
mean and spread, in the row that standardises by them, come from the clean normals themselves, which flatters its
proxies. Several seeds are averaged on the split of each in turn, and compared with the default of that seed."""
OF_RANKS = """Spearman's correlation with the test AUROC over the rows, and the row each would have chosen. A row's
figures are the default's means plus its changes, so that rows of one seed and of several can be compared."""


def table(results: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    parts = [f"{results['machine']}.", ABOUT]
    for data, rows in results["sets"].items():
        if DEFAULT in rows:
            parts += [f"## {data}", of_set(rows)]
    if results["ranks"]:
        parts += ["## How well the proxies ranked", OF_RANKS, of_ranks(results["ranks"])]
    return "\n\n".join(parts) + "\n"


def of_set(rows: Mapping[str, Any]) -> str:
    """Return the rows of one set."""
    default = rows[DEFAULT]
    lines = ["row", "changes", "seeds", *COLUMNS], ["---"] * (3 + len(COLUMNS))
    head = [DEFAULT, "", str(len(default["seeds"]))]
    found = [*lines, [*head, *(_shown(default[name], default["sd"][name], "") for name in COLUMNS)]]
    for name, row in rows.items():
        if name != DEFAULT:
            cells = (_shown(row["change"][figure], row["change_sd"][figure], "+") for figure in COLUMNS)
            of_other = "" if row["against"] == DEFAULT else f" (against {row['against']})"
            found.append([name, row["changes"] + of_other, str(len(row["seeds"])), *cells])
    return _lines(found)


def of_ranks(ranks: Mapping[str, Any]) -> str:
    """Return a line for each proxy on each set, and for the mean of the sets."""
    found = [["on", "proxy", "rows", "correlation", "would have chosen", "its test", "best on test", "best test"]]
    found.append(["---"] * len(found[0]))
    for data, proxies in ranks.items():
        for proxy, one in proxies.items():
            cells = [_shown(one["spearman"], None, "+"), one["chosen"], f"{one['test']:.3f}", one["best"]]
            where = "mean of the sets" if data == BOTH else data
            found.append([where, proxy, str(one["rows"]), *cells, f"{one['best_test']:.3f}"])
    return _lines(found)


def _shown(value: float | None, spread: float | None, sign: str) -> str:
    if value is None:
        return ""
    return f"{value:{sign}.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _lines(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
