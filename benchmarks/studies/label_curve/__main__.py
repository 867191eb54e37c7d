"""Value of labels and of unlabelled images: test AUROC, five draws each, beside controls.

    python -m benchmarks.studies.label_curve --data FOLDER/chest_xray_224 [--plan lungs] [--parts pools]
    python -m benchmarks.studies.label_curve --data FOLDER/lgg_mri_central --plan focal

Normals-only models that are asked: the preset aeflow-1 on the whole image, and by --plan the default in the lungs, or
looking for focal change.
Persons of the test set give no label. The K labels and the pool's images are drawn again each time; the flow is trained
once on all train normals, and once for each draw of a pool on the normals that are known then. Nothing is chosen on the
test split. Writes label_curve.json, .md and .png, of another plan label_curve_PLAN, and the tables of docs/labels.md;
without --data all but the first, from it. A part that was finished is there if the rest is stopped; --parts measures
some anew, and keeps the others as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from aeflow.runtime.process import prepare
from benchmarks.common import DOCS, machine_line, with_table, write_results
from benchmarks.options import Parser
from benchmarks.studies.label_curve.draws import DRAWS, PARTS, measure_all
from benchmarks.studies.label_curve.report import draw, table
from benchmarks.studies.label_curve.world import PLANS


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure if there is data, and write tables and picture."""
    parser = Parser("studies.label_curve", __doc__)
    parser.share("--data", help="one data set; without it, only write again")
    parser.share("--runs", help="folder of the normals-only models; missing ones are trained into it")
    parser.share("--out")
    parser.add_argument("--plan", choices=PLANS, default="aeflow-1")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.share("--images")
    parser.share("--page", default=DOCS / "labels.md")
    options = parser.parse_args(arguments)
    of_plan = "" if options.plan == "aeflow-1" else f"_{options.plan}"
    path, drawing = options.out / f"label_curve{of_plan}.json", options.images / f"label_curve{of_plan}.png"
    if options.data:
        prepare()
        results: dict[str, Any] = {part: [] for part in PARTS}
        results |= json.loads(path.read_text()) if path.exists() else {}
        results |= {"set": options.data.name, "machine": machine_line(), "draws": DRAWS}
        results |= {part: [] for part in options.parts}
        for part in measure_all(options.data, PLANS[options.plan], options.runs, options.parts):
            for name, rows in part.items():
                results[name] += rows
            write_results(path, results)
    results = json.loads(path.read_text())
    picture = os.path.relpath(drawing, options.out)
    path.with_suffix(".md").write_text(f"{table(results)}\n![Test AUROC over labels, and over a pool]({picture})\n")
    name = f"label curve{of_plan.replace('_', ', ')}"
    options.page.write_text(with_table(options.page.read_text(), name, table(results)))
    draw(results, drawing)
    print(table(results))


if __name__ == "__main__":
    main()
