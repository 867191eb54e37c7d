"""Runs of all methods, sets and seeds, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aeflow.data.records import Record, read_records
from aeflow.runtime.process import prepare
from benchmarks.common import machine_line
from benchmarks.processes import run_process
from benchmarks.quality.methods import METHODS, WIDE, Method
from benchmarks.quality.one_run import features_of_set
from benchmarks.quality.outcome import ROWS, SCORES, write_outcomes
from benchmarks.quality.peers import measure_peer
from benchmarks.quality.store import Store, truth_of


def measure(store: Store, options: argparse.Namespace) -> list[str]:
    """Run what is not there yet; return the runs that failed."""
    prepare()
    store.results["machine"] = machine_line()
    failed = []
    for method, data in planned(options):
        digest = method.digest(read_records(options.data / data))
        for seed in method.seeds if options.seeds is None else options.seeds:
            if not options.again and store.has(data, method.names, seed, digest):
                continue
            try:
                if method.group not in ("trivial", "peer") or method.name == "raw intensity":
                    share_features(store, options, data, method)
                run(store, options, data, method, seed, digest)
            except SystemExit as error:  # of the process, with its last words; costs this run, not the others
                failed.append(f"{data}, {method.name}, seed {seed}: {error}")
                print(failed[-1], file=sys.stderr, flush=True)
    return failed


def planned(options: argparse.Namespace) -> Iterator[tuple[Method, str]]:
    """Yield the methods and sets that were asked for and can be run."""
    for method in METHODS:
        for data in (data for data in options.sets if data in method.sets):
            if method.name in options.only and possible(method, options, read_records(options.data / data)):
                yield method, data


def possible(method: Method, options: argparse.Namespace, records: list[Record]) -> bool:
    """Return True if everything is there that a method needs."""
    if method.group == "peer":
        return options.anomalib_python is not None
    if method.name == WIDE:
        return options.wide_resnet_weights is not None
    return method.name != "raw intensity" or any(record.mask for record in records)


def share_features(store: Store, options: argparse.Namespace, data: str, method: Method) -> None:
    """Fill the cache that this method and others read, once, and note how long that took."""
    work = options.work / data
    if method.features not in features_of_set(work):
        shutil.rmtree(cache_folder(work, method), ignore_errors=True)
        asked = [*command(options, data, method, 0), "--out", work, "--features"]
        run_process(asked, AEFLOW_CACHE=str(cache_folder(work, method)))
    store.results["features"].setdefault(data, {})[method.features] = features_of_set(work)[method.features]


def cache_folder(work: Path, method: Method) -> Path:
    """Return the folder that keeps the features of a method."""
    return work / "cache" / method.features


def run(store: Store, options: argparse.Namespace, data: str, method: Method, seed: int, digest: str) -> None:
    """Run a method with one seed and keep its rows; SystemExit if its process fails."""
    work, test = options.work / data, read_records(options.data / data, "test")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        if method.group == "peer":
            outcome, process = measure_peer(method, options.anomalib_python, options.data / data, seed, out / "peer")
            write_outcomes(out, method, test, {"": outcome})
        else:
            asked = [*command(options, data, method, seed), "--out", out]
            process = run_process(asked, AEFLOW_CACHE=str(cache_folder(work, method)))
        rows = json.loads((out / ROWS).read_text())
        with np.load(out / SCORES) as scores:
            for name, row in rows.items():
                row = {"seed": seed, "digest": digest, **row, "peak_mb": process.peak_mb, "seconds": process.seconds}
                store.add(data, name, row, scores.get(name), truth_of(test))
    store.save()
    said = ", ".join(f"{name} {row['auroc']['value']:.3f}" for name, row in rows.items() if "auroc" in row)
    print(f"{data}, seed {seed}, {process.seconds:.0f} s: {said or method.name}", file=sys.stderr, flush=True)


def command(options: argparse.Namespace, data: str, method: Method, seed: int) -> list[object]:
    """Return the command of one run."""
    where = ["--data", options.data / data, "--work", options.work / data]
    where += ["--encoder-weights", options.wide_resnet_weights] if method.name == WIDE else []
    return [sys.executable, "-m", "benchmarks.quality.one_run", "--method", method.name, "--seed", seed, *where]
