"""Kills at random moments under load: what was answered is there, once, and the audit is whole."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from aeflow.serve import audit
from aeflow.serve.database import FILE, Database
from benchmarks.serve.service import other, serving

KILLS, CLIENTS, LONGEST = 20, 4, 4.0  # seconds until a kill


def kills(run: Path, given: list[bytes], folder: Path) -> dict[str, Any]:
    """Kill a service again and again while clients send images and label them, and count what is missing."""
    kept, draw = folder / "kept", random.Random(0)
    answered: dict[str, str] = {}  # of an image's identifier: its label, or nothing
    sent: list[bytes] = []
    lost = twice = 0
    for round_ in range(KILLS):
        with serving(run, kept) as running:
            stop = threading.Event()
            clients = [
                threading.Thread(
                    target=_send, args=(running.address, given, 10_000 * round_ + 1000 * i, answered, sent, stop)
                )
                for i in range(CLIENTS)
            ]
            for thread in clients:
                thread.start()
            time.sleep(draw.uniform(0.2, LONGEST))
            running.process.kill()
            stop.set()
            for thread in clients:
                thread.join()
        lost += _missing(kept, answered)
    with serving(run, kept) as running:
        for content in sent[-50:]:  # what nobody knows if it came in: sent again
            httpx.post(f"{running.address}/api/score", files={"files": ("image", content)}, timeout=60)
    with closing(sqlite3.connect(kept / FILE)) as database:
        images, different = database.execute("SELECT count(*), count(DISTINCT content) FROM images").fetchone()
        twice += images - different
        twice += database.execute(
            "SELECT count(*) FROM (SELECT 1 FROM labels GROUP BY image, reader, label HAVING count(*) > 1)"
        ).fetchone()[0]
    with Database(kept / FILE).reading() as connection:
        events = audit.verify(connection).events
    labels = sum(bool(label) for label in answered.values())
    found = {"kills": KILLS, "answered_images": len(answered), "answered_labels": labels}
    return {**found, "lost": lost, "twice": twice, "audit_events": events}


def _send(
    address: str, given: list[bytes], start: int, answered: dict[str, str], sent: list[bytes], stop: threading.Event
) -> None:
    """Send images and label them until the service is gone."""
    with httpx.Client(base_url=address, timeout=60) as client:
        for number in range(start, start + 1000):
            content = other(given[number % len(given)], number)
            try:
                sent.append(content)
                [row] = client.post("/api/score", files={"files": ("image", content)}).json()["results"]
                answered[row["id"]] = ""
                client.post(f"/api/images/{row['id']}/label", json={"label": "normal"}).raise_for_status()
                answered[row["id"]] = "normal"
            except httpx.HTTPError:
                if stop.is_set():
                    return
                time.sleep(0.05)


def _missing(kept: Path, answered: dict[str, str]) -> int:
    """Return how many answered images or labels are not in the worklist."""
    with closing(sqlite3.connect(kept / FILE)) as database:
        known = dict(database.execute("SELECT id, label FROM images"))
    return sum(image not in known or (label != "" and known[image] != label) for image, label in answered.items())
