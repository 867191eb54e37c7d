"""Steps of programs that run for days, as functions for ``killing``: each ends, and notes what it has acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.testclient import TestClient

import aeflow.cli
from aeflow.archive import plan
from aeflow.config import make_settings, parse_changes
from aeflow.deploy.open_model import open_model
from aeflow.node.score import StudyScorer
from aeflow.node.settings import NodeSettings
from aeflow.serve.app import make_app
from aeflow.serve.database import Database, in_folder
from aeflow.serve.service import Options, Service
from aeflow.tuning.tune import tune
from helpers.dicom_peers import SMALL, listening, send

HEARD = "heard.txt"  # beside the folder that is written to: what the other side was told


def acknowledged(folder: Path) -> list[str]:
    """Return what was acknowledged, in order."""
    place = folder.with_name(HEARD)
    return place.read_text().splitlines() if place.exists() else []


def _note(folder: Path, what: str) -> None:
    with folder.with_name(HEARD).open("a") as file:
        file.write(f"{what}\n")


def archive_in_parts_of_one(arguments: Sequence[str]) -> None:
    """Run the command with one file in each part of an archive."""
    plan.MAX_FILES = 1
    aeflow.cli.main(arguments)


def tune_one_trial(arguments: Sequence[str]) -> None:
    """Tune with one training: DATA OUT WEIGHTS CHANGE..."""
    data, out, weights, *changes = arguments
    settings = make_settings("default", **parse_changes(changes))
    tune(data, out, settings, 3600, trials=1, encoder_weights=Path(weights), device="cpu")


def take_uploads(arguments: Sequence[str]) -> None:
    """Start a service, upload images one by one, and call each normal: RUN FOLDER IMAGE..."""
    run, folder = map(Path, arguments[:2])
    database = Database(in_folder(folder))
    scorer = open_model(run, "torch", "cpu", 1)
    service = Service.of(Options(), run, folder, scorer, database)
    with TestClient(make_app(service), "http://127.0.0.1:8765") as client:
        for image in map(Path, arguments[2:]):
            files = {"files": (image.name, image.read_bytes())}
            answer = client.post("/api/score", files=files, headers={"Origin": "http://127.0.0.1:8765"})
            [row] = answer.raise_for_status().json()["results"]
            _note(folder, f"image {row['id']}")
            label = client.post(f"/api/images/{row['id']}/label", json={"label": "normal"})
            label.raise_for_status()
            _note(folder, f"label {row['id']}")


def take_a_study(arguments: Sequence[str]) -> None:
    """Start a node as after a kill, send it objects, and score their study: RUN FOLDER OBJECT..."""
    run, folder = map(Path, arguments[:2])
    scorer = open_model(run, "torch", "cpu", 1)
    destination = {"name": "pacs", "address": "127.0.0.1:104:PACS"}
    settings = {"destination": (destination,), "rule": ({"outside": "send"},), "quiet_seconds": 0.0}
    with listening(folder, **settings) as node:
        node.store.sweep(*node.queue.names())
        node.queue.restart(quiet=0)
        for file in map(Path, arguments[2:]):
            if send(node.port, file) == [0]:
                _note(folder, f"object {file.stem}")
        worker = StudyScorer(NodeSettings(limits=SMALL, **settings), node.queue, node.store, {None: scorer})
        while worker.score_next():
            pass
