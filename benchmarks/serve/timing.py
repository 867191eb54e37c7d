"""Time of a score over HTTP beside ``model.score`` of the same images, turn by turn; time of a long worklist's page."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert, select

import aeflow
from aeflow.serve.database import Database, in_folder
from aeflow.serve.tables import images, new_id, pictures, studies
from benchmarks.serve.service import other, percentiles, serving

ROUNDS, ROWS, PAGES, TRENDS = 1000, 50_000, 60, 5  # the 95th percentile of 200 differs by a tenth from run to run


def score_beside_model(run: Path, given: list[bytes], folder: Path) -> dict[str, Any]:
    """Time both on the same images, one after the other, so that what else the machine does meets both."""
    model, place = aeflow.load(run), folder / "image.png"
    ours: list[float] = []
    served: list[float] = []
    with serving(run, folder / "kept") as running, httpx.Client(base_url=running.address, timeout=60) as client:
        for number in range(ROUNDS + 10):
            content = other(given[number % len(given)], number)
            place.write_bytes(content)
            began = time.perf_counter()
            score = model.score(place)
            between = time.perf_counter()
            answer = client.post("/api/score", files={"files": ("image.png", content)})
            ended = time.perf_counter()
            [row] = answer.json()["results"]
            if row["score"] != score.value:
                raise RuntimeError(f"the service says {row['score']}, the model {score.value}")
            if number >= 10:
                ours.append(between - began)
                served.append(ended - between)
    one, other_ = percentiles(ours), percentiles(served)
    ratio = round(other_["p95_ms"] / one["p95_ms"], 3)
    return {"images": ROUNDS, "model_score": one, "served": other_, "p95_ratio": ratio}


def long_worklist(run: Path, given: list[bytes], folder: Path) -> dict[str, Any]:
    """Time pages of a worklist of 50,000 studies: the first, one in the middle, one that a filter leaves little of.

    And the page that shows the trends of them all.
    """
    with serving(run, folder / "kept") as running, httpx.Client(base_url=running.address, timeout=60) as client:
        client.post("/api/score", files={"files": ("image.png", given[0])}).raise_for_status()
    database = Database(in_folder(folder / "kept"))
    fill(database, ROWS)
    with database.reading() as connection:
        middle = connection.scalar(studies.select().with_only_columns(studies.c.id).order_by(studies.c.at).limit(1))
    database.close()
    asked = {
        "first": "/",
        "middle": f"/?after={middle}",
        "rare": "/?label=unsure",
        "none": "/?source=nobody",
        "api": "/api/studies?limit=50&verdict=abnormal",
        "trends": "/trends",
    }
    found: dict[str, Any] = {"rows": ROWS}
    with serving(run, folder / "kept") as running, httpx.Client(base_url=running.address, timeout=60) as client:
        for name, address in asked.items():
            seconds = []
            for _ in range(TRENDS if name == "trends" else PAGES):
                began = time.perf_counter()
                client.get(address).raise_for_status()
                seconds.append(time.perf_counter() - began)
            found[name] = percentiles(seconds)
    return found


def fill(database: Database, rows: int) -> None:
    """Put studies of one image each into a worklist, with the row of the one that is there, and scores of their own."""
    draw = random.Random(0)
    with database.reading() as connection:
        [(model, scored)] = connection.execute(select(images.c.model, images.c.row)).tuples()
    made_studies, made_images, made_pictures = [], [], []
    for number in range(rows):
        study, image = new_id(), new_id()
        p, score = draw.randint(1, 300) / 300, draw.gauss(0, 1)
        verdict, at = "abnormal" if p < 0.05 else "normal", f"2026-{1 + number % 12:02}-01T00:00:00.{number:06}Z"
        label = draw.choices(["", "normal", "abnormal", "unsure"], [90, 6, 3.9, 0.1])[0]
        shared = {"model": model, "patient": study, "p_value": p, "verdict": verdict, "label": label, "at": at}
        of_study = {"id": study, "key": study, "source": "made up", "order": -score, "outside": False, "images": 1}
        made_studies.append({**shared, **of_study})
        of_image = {"id": image, "study": study, "content": image, "slice": 0, "axis": "", "position": 0.0}
        of_image["row"] = {**scored, "patient": study, "score": score, "p_value": p, "verdict": verdict}
        made_images.append(
            {**shared, **of_image, "score": score, "outside": "", "height": 1, "width": 1, "features": b""}
        )
        made_pictures.append({"image": image, "thumbnail": b"", "map": b""})
    with database.writing() as connection:
        connection.execute(insert(studies), made_studies)
        connection.execute(insert(images), made_images)
        connection.execute(insert(pictures), made_pictures)
