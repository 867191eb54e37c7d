"""Table of the study of a cluster, for docs/scale.md."""

from __future__ import annotations

from typing import Any

from aeflow.deploy.benchmark_table import describe
from benchmarks.studies.cluster.scenarios import NODES, PARTS


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    found, assumed = results["constants"], results["assumed"]
    of_part, of_row, of_file = (found[f"driver_seconds_a_{name}"] for name in ("part", "row", "listed_image"))
    core, large = found["images_per_second_of_a_core"], results["narrow"]["large"]["images_per_second"]
    lines = [
        f"Measured here, of one core: the driver takes {1e3 * of_part:.1f} ms for a part, {1e6 * of_row:.0f} µs for a "
        f"row of it, {1e6 * of_file:.0f} µs to list a file. {found['start_seconds']:.1f} s until the first worker of a "
        "window of Ray has scored an image. "
        f"From [speed.json](../benchmarks/results/speed.json): {core:.0f} images/s of a core. "
        f"Assumed: eight cores are eight times as fast; a store answers after {1e3 * assumed['latency']:.0f} ms, and "
        f"{assumed['requests_of_a_prefix']:,.0f} requests/s of a prefix; a node that is lost is gone for "
        f"{assumed['away']:.0f} s.",
        "",
        f"Simulated time of {results['images']:,} images over that of the plan, by a driver that costs nothing: mean "
        f"of {results['draws']} draws with its standard error; in brackets over work alone, `N / (r w nodes)`:",
        "",
        f"| disturbed by | {' | '.join(f'{nodes:,} nodes' for nodes in NODES)} |",
        "|---|" + "---|" * len(NODES),
    ]
    for name, by_nodes in results["checked"].items():
        cells = [
            f"{one['over_plan']:.2f} ± {one['over_plan_error']:.2f} ({one['over_work_alone']:.1f}), {one['narrow']}"
            for one in by_nodes.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"With the driver, and large images, {large:.0f}/s of a worker: minutes (standard deviation; over the plan), "
        "and the share of work that was done twice, by images of a part, "
        f"{results['draws_of_the_grid']} draws:",
        "",
        f"| nodes | each lost, times an hour | {' | '.join(map(str, PARTS))} |",
        "|---|---|" + "---|" * len(PARTS),
    ]
    rows: dict[tuple[int, float], list[str]] = {}
    for one in results["grid"]:
        mean, sd = (one["seconds"][key] / 60 for key in ("mean", "sd"))
        cell = f"{mean:.1f} ({sd:.1f}; {one['over_plan']:.2f}), {100 * one['wasted']:.1f} %"
        rows.setdefault((one["nodes"], one["preemptions"]), []).append(cell)
    lines += [f"| {nodes:,} | {rate:g} | {' | '.join(cells)} |" for (nodes, rate), cells in rows.items()]
    return "\n".join([*lines, "", describe(results["machine"])]) + "\n"
