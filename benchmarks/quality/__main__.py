"""Accuracy of aeflow's presets on test splits, beside the paper's design, labels, controls and peers.

    python -m benchmarks.quality --data FOLDER [--anomalib-python ENV/bin/python] [--wide-resnet-weights FILE]
    python -m benchmarks.quality --data FOLDER --only "paper, embedded encoder" --seeds 0
    python -m benchmarks.quality                        # only write tables and picture again

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout. Everything learns from the same train normals,
those that `hold_out` keeps with the seed, and is measured on the test split, which nothing was chosen on. The methods
are those of ``methods.py``, in that order. Each (set, method, seed) runs in a process of its own, with nothing set in
the environment that concerns threads or memory: its peak memory is its own, and one that fails costs one row.

Results are written after each run, and what is there already, with the same settings on the same images, is not
measured again: stop it and go on as you like. Trainings and features are kept in --work until you delete it. Writes
quality.json, quality_scores.parquet and quality.md to --out; once both sets are there, the README's table and
docs/images/quality.png.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import DOCS, ROOT, SETS, with_table
from benchmarks.options import Parser
from benchmarks.quality.methods import BY_NAME
from benchmarks.quality.plot import draw
from benchmarks.quality.runs import measure
from benchmarks.quality.store import Store
from benchmarks.quality.table import short_table, table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write tables and picture."""
    parser = Parser("quality", __doc__)
    parser.share("--data", help="measure on the sets in this folder; without it, only write again")
    parser.share("--out", "--sets", "--anomalib-python")
    parser.share("--work", default=Path(tempfile.gettempdir()) / "aeflow-quality")
    parser.add_argument("--only", nargs="+", choices=list(BY_NAME), default=list(BY_NAME), metavar="METHOD")
    parser.share("--seeds", help="instead of the seeds that each method has")
    parser.add_argument("--again", action="store_true", help="measure again what is there already")
    parser.add_argument("--wide-resnet-weights", type=Path)
    parser.share("--page", default=ROOT / "README.md")
    parser.share("--picture", default=DOCS / "images" / "quality.png")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    store = Store(options.out)
    failed = measure(store, options) if options.data else []
    results = store.results
    (options.out / "quality.md").write_text(table(results))
    if all({"aeflow-1", "all abnormal"} <= results["sets"].get(data, {}).keys() for data in SETS):
        options.page.write_text(with_table(options.page.read_text(), "quality", short_table(results)))
        draw(results, options.picture)
    print(table(results))
    if failed:
        sys.exit("\n".join(["these runs failed:", *failed]))


if __name__ == "__main__":
    main()
