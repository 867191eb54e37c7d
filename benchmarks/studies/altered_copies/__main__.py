"""Test AUROC on copies of the chest set in which only a part of each image can be seen.

    python -m benchmarks.studies.altered_copies --data FOLDER [--work FOLDER] [--only METHOD ...] [--versions NAME ...]
        [--seeds N ...]
    python -m benchmarks.studies.altered_copies            # only write the page's tables again

FOLDER holds `chest_xray_224` in aeflow's layout. The lungs are those that the shipped region finds, on normal and
abnormal images alike: lungs painted over in grey; lungs alone, all else grey; cropped to the box around them; their
outline alone, one grey inside and another outside. On each version each method learns anew from the train normals of
that version and is measured on its test images, as ``benchmarks.quality`` does; by default with seed 0. Controls
without any network are turned the way that is right more often on the test split, which favours them.

Copies and trainings are kept in --work until you delete it; what is measured there is not measured again. Writes
altered.json to --out, the tables of docs/where-it-looks.md, and the picture of one image of sample/ in all versions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import CHEST, DOCS, ROOT, with_table, write_results
from benchmarks.inputs import labels_of
from benchmarks.options import Parser
from benchmarks.quality.runs import measure
from benchmarks.quality.store import Store
from benchmarks.studies.altered_copies.copies import VERSIONS, LungFinder, write_copies
from benchmarks.studies.altered_copies.picture import draw
from benchmarks.studies.altered_copies.simple import CONTROLS, either_way
from benchmarks.studies.altered_copies.table import METHODS, altered_table, hottest_table

RESULT, COPIES = "altered.json", "copies"
SAMPLE = ROOT / "sample" / "test" / "abnormal" / "person1_virus_12.jpeg"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write tables and picture."""
    parser = Parser("studies.altered_copies", __doc__)
    parser.share("--data", help="measure on the set in this folder; without it, only write again")
    parser.share("--seeds", default=[0])
    parser.share("--work", default=Path(tempfile.gettempdir()) / "aeflow-altered")
    parser.share("--out")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--versions", nargs="+", choices=list(VERSIONS), default=list(VERSIONS), metavar="VERSION")
    parser.share("--page", default=DOCS / "where-it-looks.md")
    parser.share("--picture", default=DOCS / "images" / "altered.png")
    options = parser.parse_args(arguments)
    if options.data:
        find, path = LungFinder(), options.out / RESULT
        results = json.loads(path.read_text()) if path.exists() else {}
        if not (options.work / COPIES).exists():
            results = copy_and_judge(options.data / CHEST, options.work / COPIES, find)
            write_results(path, results)
        for method in options.only:
            for version in options.versions:
                results[version] |= trained(options, version, method)
                write_results(path, results)
        draw(SAMPLE, find, options.picture)
    altered, quality = (json.loads((options.out / name).read_text()) for name in (RESULT, "quality.json"))
    page = with_table(options.page.read_text(), "altered", altered_table(altered, quality))
    options.page.write_text(with_table(page, "hottest", hottest_table(quality)))


def copy_and_judge(data: Path, out: Path, find: LungFinder) -> dict[str, dict[str, Any]]:
    """Write the copies; return the AUROC of each control without a network on the test images of each version."""
    values: dict[str, dict[str, list[float]]] = {}
    labels: list[int] = []
    writing = out.with_name("unfinished")
    shutil.rmtree(writing, ignore_errors=True)
    for records, found in write_copies(data, writing, find):
        tested = [row for row, record in enumerate(records) if record.split == "test"]
        labels += labels_of([records[row] for row in tested])
        for version, (x, lungs) in found.items() if tested else ():
            for name, control in CONTROLS.items():
                judged = control(x[tested], lungs[tested]).tolist()
                values.setdefault(version, {}).setdefault(name, []).extend(judged)
    writing.rename(out)
    return {
        version: {name: {"auroc": {"value": either_way(each, labels)}} for name, each in of_version.items()}
        for version, of_version in values.items()
    }


def trained(options: argparse.Namespace, version: str, method: str) -> dict[str, Any]:
    """Train a method on a version, unless that was done; return its AUROC with the first seed and with each.

    Empty if it failed.
    """
    work = options.work / version
    work.mkdir(parents=True, exist_ok=True)
    store = Store(work)
    asked = argparse.Namespace(
        data=options.work / COPIES / version,
        sets=[CHEST],
        only=[method],
        seeds=options.seeds,
        again=False,
        work=work,
        anomalib_python=None,
        wide_resnet_weights=None,
    )
    measure(store, asked)  # says what failed
    rows = store.results["sets"].get(CHEST, {}).get(method, [])
    seeds = {row["seed"]: row["auroc"] for row in sorted(rows, key=lambda row: row["seed"])}
    return (
        {method: {"auroc": next(iter(seeds.values())), "seeds": {n: a["value"] for n, a in seeds.items()}}}
        if rows
        else {}
    )


if __name__ == "__main__":
    main()
