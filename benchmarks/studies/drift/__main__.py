"""False alarms of `aeflow drift` on long streams, and its delay after a change of scanner.

    python -m benchmarks.studies.drift --data FOLDER --work WORK [--page docs/drift.md]

FOLDER holds `chest_xray_224` in aeflow's layout. The model is trained on half of its train normals; it and what was
measured stay in WORK. Streams are drawn, with replacement, from one image a patient of the other half, which it never
saw: as they are, by other scanners (single traits at the ends of the ranges of `data/augment.py`, and whole ones as
`recapture` draws them), and with train-side abnormal images among them. No test image has a part in it. Writes
benchmarks/results/drift.json, and the table into the page.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from aeflow.artifacts.layout import read_metadata
from aeflow.drift.charts import CONTAMINATION, OtherImages
from aeflow.drift.drift import reference
from aeflow.errors import count
from aeflow.runtime.process import prepare
from benchmarks.common import CHEST, machine_line, with_table, write_results
from benchmarks.options import Parser
from benchmarks.studies.drift.images import ABNORMAL, PLAIN, Measured, measure, trained
from benchmarks.studies.drift.scanners import SCANNERS
from benchmarks.studies.drift.streams import BEFORE, SOON, World, delays, false_alarms, more_abnormal


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = Parser("studies.drift", __doc__)
    parser.share("--data", "--work", required=True)
    parser.share("--seed", "--out", "--page")
    options = parser.parse_args(arguments)
    prepare()
    data = options.data / CHEST
    options.work.mkdir(parents=True, exist_ok=True)
    run = options.work / "run"
    scorer = trained(data, run, options.seed)
    normals, _ = reference(read_metadata(run), scorer.calibration)
    world = World(measure(scorer, data, options.seed, options.work / "measured"), normals, scorer.calibration)
    results = study(world, options.seed)
    write_results(options.out / "drift.json", results)
    print(table(results))
    if options.page:
        page = options.page.read_text()
        options.page.write_text(with_table(page, "drift", table(results)))


def study(world: World, seed: int) -> dict[str, Any]:
    """Return everything that is kept in drift.json."""
    groups, tic = world.measured.groups, time.perf_counter()
    return {
        "machine": machine_line(),
        "seed": seed,
        "normals": {"reference": len(world.normals["score"]), "unseen": len(groups[PLAIN])},
        "abnormal": {"images": len(groups[ABNORMAL]), **contamination(world)},
        "shifts": shifts(world.measured),
        "false_alarms": false_alarms(world, seed),
        "delays": delays(world, list(SCANNERS), seed),
        "more_abnormal": more_abnormal(world, seed),
        "minutes": round((time.perf_counter() - tic) / 60, 1),
    }


def contamination(world: World) -> dict[str, float]:
    """Return the shares of normal and abnormal images that look normal, and what abnormal ones make up there."""
    cut = OtherImages({name: world.normals[name].tolist() for name in world.measured.columns}).cut
    normal, sick = (float((world.measured.groups[name][:, 0] < cut).mean()) for name in (PLAIN, ABNORMAL))
    at = {
        f"of those that look normal, at {100 * p:.0f} %": p * sick / (p * sick + (1 - p) * normal) for p in (0.05, 0.2)
    }
    return {"normal that look normal": normal, "abnormal that look normal": sick, **at, "allowed": CONTAMINATION}


def shifts(measured: Measured) -> dict[str, dict[str, float]]:
    """Return how far each scanner moves the mean of each column, in standard deviations of the normals as they are."""
    plain = measured.groups[PLAIN]
    scale = plain.std(axis=0)
    scale[scale < 1e-6] = np.inf  # grey images are all of one colour, but for rounding
    return {
        name: dict(
            zip(measured.columns, ((rows.mean(axis=0) - plain.mean(axis=0)) / scale).round(2).tolist(), strict=True)
        )
        for name, rows in measured.groups.items()
        if name != PLAIN
    }


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    normals = results["normals"]
    lines = [
        f"{results['machine']}; seed {results['seed']}. Reference: {normals['reference']} held-out normals, one a "
        f"patient; streams are drawn from {normals['unseen']} others.",
        "",
        "| false alarms in 10,000 images, nothing changed | other images | other scores |",
        "|---|---|---|",
    ]
    for name, by_share in results["false_alarms"].items():
        for share, found in by_share.items():
            cells = [_alarms(found[chart]) for chart in ("other images", "other scores")]
            lines.append(f"| reference {name}, abnormal images: {share} | {' | '.join(cells)} |")
    after, first = f"after {BEFORE}", "after 0"
    lines += [
        "",
        f"| another scanner | alarm within {SOON} images, after {BEFORE:,} | with 20 % abnormal "
        f"| from the first image on | median delay, after {BEFORE:,} | largest shift |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in results["delays"].items():
        moved, shift = max(results["shifts"][name].items(), key=lambda item: abs(item[1]))
        cells = [_percent(found[a][b]["within"]) for a, b in ((after, "none"), (after, "20 %"), (first, "none"))]
        delay = found[after]["none"]["median_delay"]
        largest = f"{moved.removeprefix('input_')} {shift:+.1f} sd"
        lines.append(f"| {name} | {' | '.join(cells)} | {'none' if delay is None else f'{delay:.0f}'} | {largest} |")
    ill, more = results["abnormal"], results["more_abnormal"]
    settings = [one for found in results["delays"].values() for one in found[after].values()]
    held = np.mean([one["onset_within"]["value"] for one in settings if one["onset_within"]])
    lines += [
        "",
        f"After {BEFORE:,} images, the interval of the onset held the true one in {100 * held:.0f} % of the draws. "
        f"Of normal images {100 * ill['normal that look normal']:.0f} % look normal, "
        f"of abnormal ones {100 * ill['abnormal that look normal']:.1f} %. If their share rises from 5 to 20 %, "
        f"the chart of scores says so in {_percent(more['found'])} of {more['draws']} draws "
        f"(median delay {more['median_delay'] or 0:.0f} images), "
        f"and the chart of images gives {count(more['alarms of other images'], 'false alarm')} "
        f"in {2 * BEFORE * more['draws']:,} images.",
    ]
    return "\n".join(lines) + "\n"


def _alarms(found: dict[str, float]) -> str:
    return f"{found['rate']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _percent(found: dict[str, float]) -> str:
    return f"{100 * found['value']:.0f} % ({100 * found['low']:.0f} to {100 * found['high']:.0f})"


if __name__ == "__main__":
    main()
