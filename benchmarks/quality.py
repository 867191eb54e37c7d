"""How well the default preset finds what it has never seen, beside the paper's design, labels, controls and peers.

    python benchmarks/quality.py --data FOLDER [--anomalib-python ENV/bin/python] [--wide-resnet-weights FILE]
    python benchmarks/quality.py --data FOLDER --only "paper, embedded encoder" --seeds 0
    python benchmarks/quality.py                        # only write tables and picture again

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout. Everything learns from the same train normals,
those that `hold_out` keeps with the seed, and is measured on the test split, which nothing was chosen on. The methods
are those of ``quality_methods.py``, in that order. Each (set, method, seed) runs in a process of its own, with nothing
set in the environment that concerns threads or memory: its peak memory is its own, and one that fails costs one row.

Results are written after each run, and what is there already, with the same settings on the same images, is not
measured again: stop it and go on as you like. Trainings and features are kept in --work until you delete it. Writes
quality.json, quality_scores.parquet and quality.md to --out; once the default is measured on both sets, the README's
table and docs/images/quality.png.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aeflow.data.records import Record, read_records
from aeflow.runtime.machine import cores
from aeflow.runtime.process import prepare
from quality_methods import BY_NAME, METHODS, SETS, WIDE, Method
from quality_peers import measure as measure_peer
from quality_plot import draw
from quality_run import FEATURES, leave
from quality_store import Store, truth_of
from quality_table import spread, table, with_table
from speed import ran

__all__ = ["SETS", "machine", "spread"]
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="measure on the sets in this folder; without it, only write again")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "aeflow-quality")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--only", nargs="+", choices=list(BY_NAME), default=list(BY_NAME), metavar="METHOD")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the seeds that each method has")
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    parser.add_argument("--anomalib-python", type=Path, help="its environment: see anomalib_peer.py")
    parser.add_argument("--wide-resnet-weights", type=Path)
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md", help="whose table is written")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "images" / "quality.png")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    store, failed = Store(options.out), []
    if options.data:
        failed = measure(store, options)
    results = store.results
    (options.out / "quality.md").write_text(table(results))
    if all({"default", "all abnormal"} <= results["sets"].get(data, {}).keys() for data in SETS):
        options.readme.write_text(with_table(options.readme.read_text(), results))
        draw(results, options.picture)
    print(table(results))
    if failed:
        sys.exit("\n".join(["these runs failed:", *failed]))


def measure(store: Store, options: argparse.Namespace) -> list[str]:
    """Run what is not there yet; the runs that failed."""
    prepare()
    store.results["machine"] = machine()
    failed = []
    for method in METHODS:
        for data in options.sets:
            if method.name not in options.only or not possible(method, options, read_records(options.data / data)):
                continue
            for seed in method.seeds if options.seeds is None else options.seeds:
                digest = method.digest(read_records(options.data / data))
                if not options.again and store.has(data, method.names, seed, digest):
                    continue
                try:
                    if method.group not in ("trivial", "peer") or method.name == "raw intensity":
                        share_features(store, options, data)
                    run(store, options, data, method, seed, digest)
                except SystemExit as error:  # of the process, with its last words
                    failed.append(f"{data}, {method.name}, seed {seed}: {error}")
                    print(failed[-1], file=sys.stderr, flush=True)
    return failed


def possible(method: Method, options: argparse.Namespace, records: list[Record]) -> bool:
    """Whether there is what a method needs."""
    if method.group == "peer":
        return options.anomalib_python is not None
    if method.name == WIDE:
        return options.wide_resnet_weights is not None
    return method.name != "raw intensity" or any(record.mask for record in records)


def share_features(store: Store, options: argparse.Namespace, data: str) -> None:
    """Fill the cache that all methods read, once, and note how long that took."""
    work = options.work / data
    if not (work / FEATURES).exists():
        shutil.rmtree(work / "cache", ignore_errors=True)
        ran([*command(options, data, "features", 0), "--out", work], AEFLOW_CACHE=str(work / "cache"))
    store.results["features"][data] = json.loads((work / FEATURES).read_text())


def run(store: Store, options: argparse.Namespace, data: str, method: Method, seed: int, digest: str) -> None:
    """One run, its rows kept; SystemExit where its process fails."""
    work, test = options.work / data, read_records(options.data / data, "test")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        if method.group == "peer":
            outcome, process = measure_peer(method, options.anomalib_python, options.data / data, seed, out / "peer")
            leave(out, method, test, {"": outcome})
        else:
            weights = ["--encoder-weights", options.wide_resnet_weights] if method.name == WIDE else []
            asked = [*command(options, data, method.name, seed), "--out", out, *weights]
            process = ran(asked, AEFLOW_CACHE=str(work / "cache"))
        rows = json.loads((out / "rows.json").read_text())
        with np.load(out / "scores.npz") as scores:
            for name, row in rows.items():
                row = {"seed": seed, "digest": digest, **row, "peak_mb": process.peak_mb, "seconds": process.seconds}
                store.add(data, name, row, scores.get(name), truth_of(test))
    store.save()
    said = ", ".join(f"{name} {row['auroc']['value']:.3f}" for name, row in rows.items() if "auroc" in row)
    print(f"{data}, seed {seed}, {process.seconds:.0f} s: {said or method.name}", file=sys.stderr, flush=True)


def command(options: argparse.Namespace, data: str, method: str, seed: int) -> list[Any]:
    """That of a process."""
    where = ["--data", options.data / data, "--work", options.work / data]
    return [sys.executable, HERE / "quality_run.py", "--method", method, "--seed", seed, *where]


def machine() -> str:
    """What the timings were taken on."""
    return f"{cores()} cores {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
