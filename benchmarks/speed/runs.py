"""Programs of aeflow and of anomalib, run in turns on the same images."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from aeflow.data.records import of_label, read_records
from aeflow.data.splits import evenly
from benchmarks.inputs import link_images
from benchmarks.processes import Process, run_process

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
MAPS, PLAIN, DRAWN = "aeflow, maps", "aeflow score", "aeflow score --maps"
FAST, SAME, DOCUMENTED = "batches of 32", "batches of 16", "as documented, pictures"
FITTED = 16  # normals that the peers are fitted on before they score; PatchCore keeps 1,254 of their patches
STARTS = 5  # cold processes


class Speed:
    """Measurements so far, in a temporary folder."""

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
        """Make a folder of links to some images, evenly drawn."""
        return link_images(self.work / name, evenly(paths, n))

    def note(self, name: str, found: Process, n: int, alone: float) -> None:
        """Keep a run over n images; ``alone`` are the seconds of the scoring alone."""
        self.runs[name].append({"whole": n / found.seconds, "alone": n / alone, "peak_mb": found.peak_mb})
        print(f"{name}: {n} images in {found.seconds:.1f} s, {alone:.1f} s of them scoring", file=sys.stderr)

    def starts(self) -> dict[str, list[float]]:
        """Return the seconds of cold processes: the help, and the score of one image."""
        one = next(self.images.iterdir())
        commands = {"help": [*CLI, "--help"], "first score": [*CLI, "score", self.run, one]}
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(STARTS):
            for name, command in commands.items():
                found[name].append(run_process(command).seconds)
        return found

    def score(self, start: float) -> None:
        """Run aeflow and its peers in turns; ``start``, the seconds for one image, is not counted as scoring."""
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
        """Run aeflow, as a command and as a program that wants the maps."""
        self.command(PLAIN, self.images, start, [])
        found = run_process([sys.executable, "-c", PROGRAM, self.run, self.images, self.work / "maps.csv"])
        self.note(MAPS, found, len(list(self.images.iterdir())), json.loads(found.output))

    def command(self, name: str, images: Path, start: float, more: list[Any]) -> None:
        """Run `aeflow score` on a folder."""
        found = run_process([*CLI, "score", self.run, images, "--out", self.work / "t.csv", "--overwrite", *more])
        n = len(os.listdir(images))
        self.note(name, found, n, min(found.seconds, max(found.seconds - start, 0.1) * n / max(n - 1, 1)))

    def theirs(self, peer: str, way: str, images: Path, more: list[Any]) -> None:
        """Run a peer on a folder."""
        found, said = self.ask("predict", [peer], images, more)
        self.note(f"{peer}, {way}", found, said[peer]["images"], said[peer]["seconds"])

    def ask(
        self, task: str, peers: list[str], images: Path, more: list[Any] | None = None
    ) -> tuple[Process, dict[str, Any]]:
        """Let the peers' program do a task; return its process and its own measurements."""
        files = ["--models", self.work / "models", "--out", self.work / "said.json"]
        found = run_process(
            [
                self.peer,
                "-m",
                "benchmarks.speed.anomalib_speed",
                task,
                *peers,
                "--images",
                images,
                *files,
                *(more or []),
            ]
        )
        return found, json.loads((self.work / "said.json").read_text())

    def train(self, n: int) -> dict[str, Any]:
        """Return the seconds of aeflow's training, start to end, and of the epochs alone of the peer's.

        The faster of two epochs over ``n`` images is scaled to the number of images that aeflow learns from.
        """
        settings = ["--epochs", self.epochs, "--set", f"patience={self.epochs}", "--json", "--overwrite"]
        first = str(self.work / "cache")  # no features are there yet
        found = run_process([*CLI, "train", self.data, "--out", self.work / "run", *settings], AEFLOW_CACHE=first)
        own = json.loads(found.output)
        training: dict[str, Any] = {
            "epochs": own["epochs"],
            "images": own["normal_images"],
            "aeflow": {"seconds": found.seconds, "peak_mb": found.peak_mb},
        }
        if self.peer:
            images = self.folder("fit-epochs", self.normals, n)
            found, reported = self.ask("fit", ["fastflow"], images, ["--epochs", 2])
            said = reported["fastflow"]
            fast = min(said["epochs"], key=lambda epoch: epoch["image"])
            epoch = max(fast["fixed"], 0.0) + fast["image"] * own["normal_images"]
            training["fastflow"] = {
                "seconds": epoch * self.epochs,
                "epoch": epoch,
                "on": said,
                "peak_mb": found.peak_mb,
            }
        return training

    def ratios(self) -> dict[str, float]:
        """Return images/s over those of the fastest way of each peer, for the whole process and the scoring alone."""
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
        """Return the medians over the repeats of each program."""
        return {name: {key: median(run[key] for run in runs) for key in runs[0]} for name, runs in self.runs.items()}
