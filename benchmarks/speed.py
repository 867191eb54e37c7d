"""The speed of scoring and training, beside anomalib on the same images, encoder and weights; each floor as a row.

    python benchmarks/speed.py --data DATA --run RUN --anomalib-python ENV/bin/python [--out benchmarks/results]

How to make ENV: see ``anomalib_peer.py``; without it the rows that compare stay empty, and say so. DATA is a data
folder with train normals and a test split; RUN a model of the preset default, best trained on it.

Every program runs as its user starts it: a fresh process, with nothing set in the environment that concerns threads or
memory; whatever of that this shell has set is taken out. Programs take turns, and medians count. Images a second are
over the whole process, from its start to its table, and again over the scoring alone. Memory is the sum over the
process and all below it, shared pages counted once, four times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from aeflow.data.records import of_label, read_records
from aeflow.data.splits import evenly
from aeflow.runtime.machine import VARIABLES, machine, resident_mb
from speed_table import as_table, with_table

HERE = Path(__file__).parent
CLI = [sys.executable, "-c", "from aeflow.cli import main; main()"]
# A user's program that wants the maps as arrays; the command draws them.
PROGRAM = """
import csv, json, sys, time
import aeflow
model = aeflow.load(sys.argv[1])
tic = time.perf_counter()
with open(sys.argv[3], "w", newline="") as file:
    rows = csv.writer(file)
    for path, score in model.score_all(sys.argv[2], maps=True):
        rows.writerow([path, score.value, score.p_value, score.verdict, score.map.max()])
print(json.dumps(time.perf_counter() - tic))
"""
# What `aeflow train` does at its end; the run may come from another machine.
READY = "import sys; from pathlib import Path; from aeflow.choose import make_ready; make_ready(Path(sys.argv[1]))"
MAPS, PLAIN, DRAWN = "aeflow, maps", "aeflow score", "aeflow score --maps"
FAST, SAME, DOCUMENTED = "batches of 32", "batches of 16", "as documented, pictures"
FITTED = 16  # normals that the peers are fitted on before they score; PatchCore keeps 1,254 of their patches
STARTS = 5  # cold processes
KEPT = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}  # without these some processors compute nonsense


@dataclass(frozen=True, slots=True)
class Ran:
    """A process that has ended well."""

    seconds: float
    peak_mb: float
    output: str


def ran(command: list[Any], **variables: str) -> Ran:
    """Run a program with nothing else set for it, and watch its memory; its messages are shown where it fails."""
    kept = {k: v for k, v in os.environ.items() if k in KEPT or not k.startswith(VARIABLES)} | variables
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        tic, peak, ended = time.perf_counter(), [0.0], threading.Event()
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err, env=kept)

        def watch() -> None:
            while not ended.wait(0.25):
                peak.append(resident_mb(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        process.wait()  # with a time limit it would look only every 50 ms
        seconds = time.perf_counter() - tic
        ended.set()
        watcher.join()
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise SystemExit(f"{command[:4]} ended with {process.returncode}:\n{err.read()[-4000:]}")
        return Ran(seconds, max(peak), out.read())


class Speed:
    """What was measured so far, in a temporary folder."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.run, self.data, self.peer, self.work = options.run, options.data, options.anomalib_python, work
        self.repeats, self.epochs = options.repeats, options.epochs
        records = read_records(self.data)
        self.tested = [record.path for record in records if record.split == "test" and record.label is not None]
        self.normals = [r.path for r in of_label([r for r in records if r.split == "train"], 0)]
        self.images = self.folder("images", self.tested, options.images)
        self.few = self.folder("few", self.tested, options.drawn)
        self.runs: dict[str, list[dict[str, float]]] = defaultdict(list)

    def folder(self, name: str, paths: list[Path], n: int) -> Path:
        """A folder of links to some images, evenly drawn."""
        folder = self.work / name
        folder.mkdir()
        for number, path in enumerate(evenly(paths, n)):
            (folder / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
        return folder

    def note(self, name: str, found: Ran, n: int, alone: float) -> None:
        """Keep a run over n images, of which the scoring alone took so many seconds."""
        self.runs[name].append({"whole": n / found.seconds, "alone": n / alone, "peak_mb": found.peak_mb})
        print(f"{name}: {n} images in {found.seconds:.1f} s, {alone:.1f} s of them scoring", file=sys.stderr)

    def starts(self) -> dict[str, list[float]]:
        """Seconds of cold processes: the help, and the score of one image."""
        one = next(self.images.iterdir())
        commands = {"help": [*CLI, "--help"], "first score": [*CLI, "score", self.run, one]}
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(STARTS):
            for name, command in commands.items():
                found[name].append(ran(command).seconds)
        return found

    def score(self, start: float) -> None:
        """aeflow and its peers in turns; ``start`` is what one image takes, which is not counted as scoring."""
        peers = ["fastflow", "padim", "patchcore"] if self.peer else []
        if peers:
            self.ask("fit", peers, self.folder("fitted", self.normals, FITTED))
        for turn in range(self.repeats):
            self.ours(start)
            if peers:
                self.theirs("fastflow", FAST, self.images, ["--batch-size", 32])
            if turn == 0:
                self.command(DRAWN, self.few, start, ["--maps", self.work / "maps"])
                for peer in peers[1:]:
                    self.theirs(peer, FAST, self.images, ["--batch-size", 32])
                for peer in peers[:1]:
                    self.theirs(peer, SAME, self.images, ["--batch-size", 16])
                    self.theirs(peer, DOCUMENTED, self.few, [])

    def ours(self, start: float) -> None:
        self.command(PLAIN, self.images, start, [])
        found = ran([sys.executable, "-c", PROGRAM, self.run, self.images, self.work / "maps.csv"])
        self.note(MAPS, found, len(list(self.images.iterdir())), json.loads(found.output))

    def command(self, name: str, images: Path, start: float, more: list[Any]) -> None:
        found, n = ran([*CLI, "score", self.run, images, "--out", self.work / "t.csv", *more]), len(os.listdir(images))
        self.note(name, found, n, min(found.seconds, max(found.seconds - start, 0.1) * n / max(n - 1, 1)))

    def theirs(self, peer: str, way: str, images: Path, more: list[Any]) -> None:
        found, said = self.ask("predict", [peer], images, more)
        self.note(f"{peer}, {way}", found, said[peer]["images"], said[peer]["seconds"])

    def ask(
        self, task: str, peers: list[str], images: Path, more: list[Any] | None = None
    ) -> tuple[Ran, dict[str, Any]]:
        """Let the peer's script do a task; what it measured itself comes along."""
        files = ["--models", self.work / "models", "--out", self.work / "said.json"]
        found = ran([self.peer, HERE / "anomalib_peer.py", task, *peers, "--images", images, *files, *(more or [])])
        return found, json.loads((self.work / "said.json").read_text())

    def train(self, n: int) -> dict[str, Any]:
        """Seconds of all our epochs, from the start of the program to the model; and of the peer's, its epochs alone.

        Of two epochs over ``n`` images the faster is scaled to as many images as ours learns from.
        """
        settings = ["--epochs", self.epochs, "--set", f"patience={self.epochs}", "--json", "--overwrite"]
        first = str(self.work / "cache")  # no features are there yet
        found = ran([*CLI, "train", self.data, "--out", self.work / "run", *settings], AEFLOW_CACHE=first)
        own = json.loads(found.output)
        told: dict[str, Any] = {
            "epochs": own["epochs"],
            "images": own["normal_images"],
            "aeflow": {"seconds": found.seconds, "peak_mb": found.peak_mb},
        }
        if self.peer:
            images = self.folder("fit-epochs", self.normals, n)
            found, told_by = self.ask("fit", ["fastflow"], images, ["--epochs", 2])
            said = told_by["fastflow"]
            fast = min(said["epochs"], key=lambda epoch: epoch["image"])
            epoch = max(fast["fixed"], 0.0) + fast["image"] * own["normal_images"]
            told["fastflow"] = {"seconds": epoch * self.epochs, "epoch": epoch, "on": said, "peak_mb": found.peak_mb}
        return told

    def ratios(self) -> dict[str, float]:
        """Images a second of ours over the fastest way of each peer, the whole process and the scoring alone."""
        middle = self.medians()
        found = {}
        for kind in ("whole", "alone"):
            for peer in ("fastflow", "padim", "patchcore"):
                ways = [middle[f"{peer}, {way}"][kind] for way in (FAST, SAME) if f"{peer}, {way}" in middle]
                if ways:
                    found[f"{MAPS} / {peer}, {kind}"] = middle[MAPS][kind] / max(ways)
            if f"fastflow, {DOCUMENTED}" in middle:
                found[f"{DRAWN} / fastflow, {DOCUMENTED}, {kind}"] = (
                    middle[DRAWN][kind] / middle[f"fastflow, {DOCUMENTED}"][kind]
                )
        return found

    def medians(self) -> dict[str, dict[str, float]]:
        return {name: {key: median(run[key] for run in runs) for key in runs[0]} for name, runs in self.runs.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--anomalib-python", type=Path)
    parser.add_argument("--images", type=int, default=320, help="test images to score")
    parser.add_argument("--drawn", type=int, default=64, help="of them, where a picture of each is written")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30, help="of the training; 0 leaves it out")
    parser.add_argument("--train-images", type=int, default=160, help="that the peer's epochs are measured on")
    parser.add_argument("--maps", type=int, default=1000, help="of the pixel metrics")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument(
        "--page", type=Path, default=HERE.parent / "docs" / "performance.md", help="whose table is written"
    )
    options = parser.parse_args(arguments)
    facts = machine()  # before the load is our own
    if options.anomalib_python is None:
        print("anomalib is not compared: no --anomalib-python", file=sys.stderr)
    tic = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        speed = Speed(options, Path(folder))
        ran([sys.executable, "-c", READY, options.run])
        starts = speed.starts()
        speed.score(median(starts["first score"]))
        bench = json.loads(ran([*CLI, "bench", options.run, "--images", speed.images, "--json"]).output)
        pixel = ran([sys.executable, HERE / "pixel_speed.py", "--maps", options.maps, "--out", folder]).output
        training = speed.train(options.train_images) if options.epochs else None
        result = {
            "images": len(os.listdir(speed.images)),
            "drawn": len(os.listdir(speed.few)),
            "runs": speed.runs,
            "medians": speed.medians(),
            "ratios": speed.ratios(),
            "starts": starts,
            "training": training,
            "bench": bench,
            "pixel": json.loads(pixel),
            "seconds": time.perf_counter() - tic,
            "machine": facts,
        }
    result = _rounded(result)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "speed.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "speed.md").write_text(as_table(result))
    options.page.write_text(with_table(options.page.read_text(), result))
    print(as_table(result))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
