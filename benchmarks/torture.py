"""What breaks: counts of the long tests, and the share of a score's time that guarding its files takes.

    python -m benchmarks.torture [--tests EXPRESSION] [--run RUN --images-of FOLDER] [--page docs/reliability.md]

The tests are those of `make torture`: they kill every writing command at every event on the file system and an archive
at random moments, limit what a file may hold, flip bits, and read hostile files. Each says what it counted; EXPRESSION
chooses some of them, as pytest's -k does, or none with an empty text, and the counts of the others stay. For the cost,
1,000 images of FOLDER are scored by RUN, once to warm up; in the second score, what waits for the disk, renames, takes
checksums and locks, and compares files with inputs is timed. Writes torture.json and the table of docs/reliability.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from aeflow.cli import main as aeflow
from aeflow.data.folder_files import images_in
from aeflow.runtime.inputs import Inputs
from aeflow.runtime.machine import machine
from benchmarks.common import DOCS, ROOT, with_table, write_results
from benchmarks.options import Parser

IMAGES = 1000
LARGEST = "most "  # how a property begins whose largest value counts, not the sum
FORMS = ("table", "pictures")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tests and the timings, and write the results and the page's table."""
    parser = Parser("torture", __doc__)
    parser.share("--run", "--out")
    parser.add_argument("--images-of", type=Path, help="folder of the images to score")
    parser.add_argument("--tests", help="only those that pytest's -k chooses; an empty text for none")
    parser.share("--page", default=DOCS / "reliability.md")
    options = parser.parse_args(arguments)
    place = options.out / "torture.json"
    results = json.loads(place.read_text()) if place.exists() else {}
    if options.tests != "":
        results["counts"] = {**results.get("counts", {}), **counts(options.tests)}
    if options.run is not None:
        results["cost"] = {form: cost(options.run, options.images_of, form) for form in FORMS}
    results["machine"] = machine()
    write_results(place, results)
    options.page.write_text(with_table(options.page.read_text(), "torture", table(results)))


def counts(chosen: str | None) -> dict[str, dict[str, int]]:
    """Run the long tests; return what they counted by name, and ``failed``: how many of the tests that count it do."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-m", "torture", "-n", "auto", "--maxprocesses", "4"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}", *(["-k", chosen] if chosen else [])]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        return counted(report)


def counted(report: Path) -> dict[str, dict[str, int]]:
    """Return the counts in a JUnit report; a test that failed before it counted stands under its own name."""
    found: dict[str, dict[str, int]] = {}
    for case in ET.parse(report).iter("testcase"):
        failed = case.find("failure") is not None or case.find("error") is not None
        counts = [(one.attrib["name"], int(one.attrib["value"])) for one in case.iter("property")]
        for name, number in counts or ([(case.attrib["name"], 0)] if failed else []):
            entry = found.setdefault(name, {"number": 0, "failed": 0})
            largest = name.startswith(LARGEST)
            entry["number"] = max(entry["number"], number) if largest else entry["number"] + number
            entry["failed"] += failed
    return found


def cost(run: Path, images: Path, form: str) -> dict[str, float]:
    """Return seconds of a score of IMAGES images, and of the guards in it; threads that wait are counted, too."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "images"), Path(folder, "out")
        source.mkdir()
        for number, path in zip(range(IMAGES), itertools.cycle(images_in(images)), strict=False):
            shutil.copy2(path, source / f"{number:04}{path.suffix}")
        to = ("--maps", out / "maps") if form == "pictures" else ("--out", out / "scores.csv")
        out.mkdir()
        score(run, source, to)
        with guards() as seconds:
            began = time.perf_counter()
            score(run, source, to)
            whole = time.perf_counter() - began
    guarded = sum(seconds.values())
    return {"seconds": whole, **seconds, "share": guarded / whole}


def score(run: Path, source: Path, to: Sequence[object]) -> None:
    """Score as the command does, and say nothing."""
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            aeflow(["score", str(run), str(source), *map(str, to), "--overwrite"])
    except SystemExit as end:
        if end.code:
            raise


@contextmanager
def guards() -> Iterator[dict[str, float]]:
    """Time what only guards files, in all threads; yields the seconds of each."""
    seconds: dict[str, float] = defaultdict(float)
    lock = threading.Lock()

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                with lock:
                    seconds[name] += time.perf_counter() - began

        return call

    guarding = ((os, "fsync"), (os, "replace"), (fcntl, "flock"), (hashlib, "file_digest"), (Inputs, "spare"))
    with ExitStack() as stack:
        for owner, name in guarding:
            stack.enter_context(mock.patch.object(owner, name, timed(name, getattr(owner, name))))
        yield seconds


def table(results: dict[str, Any]) -> str:
    """Return what was counted and measured as a table."""
    lines = ["| | counted | failed |", "|---|---|---|"]
    for name, entry in sorted(results.get("counts", {}).items()):
        lines.append(f"| {name} | {entry['number']:,} | {entry['failed']} |")
    for form, entry in results.get("cost", {}).items():
        lines.append(f"| share of the guards in `score` of {IMAGES:,} images, {form} | {entry['share']:.1%} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
