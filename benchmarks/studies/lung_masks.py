"""Where anomaly maps are hottest on pneumonias of the chest set's train folder whose lungs people drew.

    python -m benchmarks.studies.lung_masks --data FOLDER --work FOLDER [--only METHOD ...] [--seeds N ...]
    python -m benchmarks.studies.lung_masks                 # only write the page's table again

FOLDER holds `chest_xray_224`, and `chest_lungs` with masks of its train images by the same names. No abnormal image of
that folder was trained on. Models are those of ``benchmarks.quality`` in its --work folder; what is not there is
trained into it. By chance means the lungs' share of the area that counts, which is all of the picture without a region,
and where a model finds no region at all.

Writes lung_masks.json to --out and the table of docs/where-it-looks.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import aeflow
from aeflow.artifacts.layout import MODEL_JSON
from aeflow.data.loader import region_of
from aeflow.data.records import Record, of_label, read_records
from aeflow.evaluation.localisation import WhereMapsLook
from aeflow.runtime.process import prepare
from aeflow.training import train as training
from benchmarks.common import CHEST, DOCS, with_table, write_results
from benchmarks.inputs import scores_of
from benchmarks.options import Parser
from benchmarks.quality.methods import BY_NAME
from benchmarks.quality.run_aeflow import run_folder

RESULT, MASKS = "lung_masks.json", Path("chest_lungs") / "train" / "abnormal"
METHODS = ("lungs, diffuse", "lungs, unknown", "default", "aeflow-1")
FIGURES = ("hottest_point", "hottest_area", "border")
HEAD = (
    "| method | seeds | hottest point in the lungs | by chance | over chance | of the hottest 5 %, share there "
    "| over chance | at the border | by chance |"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the table."""
    parser = Parser("studies.lung_masks", __doc__)
    parser.share("--data", help="measure on the sets in this folder; without it, only write again")
    parser.share("--work", "--out")
    parser.share("--seeds", default=[0])
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.share("--page", default=DOCS / "where-it-looks.md")
    options = parser.parse_args(arguments)
    path = options.out / RESULT
    results: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    if options.data:
        prepare()
        records = list(drawn(options.data))
        for method in options.only:
            for seed in options.seeds:
                run = run_folder(options.work / CHEST, BY_NAME[method], seed)
                if not (run / MODEL_JSON).exists():
                    training.train(options.data / CHEST, run, BY_NAME[method].settings_of(seed))
                results.setdefault(method, {})[str(seed)] = looked(run, records)
                write_results(path, results)
    options.page.write_text(with_table(options.page.read_text(), "drawn lungs", table(results)))


def drawn(data: Path) -> Iterator[Record]:
    """Yield the abnormal train images whose lungs were drawn, with their masks."""
    for record in of_label(read_records(data / CHEST, "train"), 1):
        mask = data / MASKS / f"{record.path.stem}.png"
        if mask.exists():
            yield replace(record, region=mask)


def looked(run: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Return where the maps of a model are hottest on these images, as metrics.json has it."""
    scorer = aeflow.load(run).scorer
    where = WhereMapsLook(scorer.settings.seed)
    for record, result in scores_of(scorer, records, maps=True):
        counts = None if result.region is None else result.region > 0.5
        where.add(record, result.maps["anomaly"], None, region_of(record, scorer.settings.image_size), counts)
    found = where.result()
    assert found is not None
    of: dict[str, Any] = found["region"]["abnormal"]
    return of


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the figures as Markdown: means over seeds, with the interval of the first."""
    lines = [HEAD, "|---" * 9 + "|"]
    for method in METHODS:
        if not (seeds := list(results.get(method, {}).values())):
            lines.append(f"| {method} | not measured |" + " - |" * 7)
            continue
        cells = []
        for name in FIGURES:
            value, chance = (float(np.mean([one[name][key] for one in seeds])) for key in ("value", "chance"))
            low, high = seeds[0][name]["low"], seeds[0][name]["high"]
            cells.append(f"{value:.3f} ({low:.2f} to {high:.2f})")
            cells += [f"{chance:.2f}"] if name != "hottest_area" else []
            cells += [f"{value / chance:.2f}"] if name != "border" else []
        lines.append(f"| {method} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
