"""Many clients at a time, bad requests among theirs: every answer is right, or a refusal that says so; memory stays."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

import aeflow
from benchmarks.serve.service import percentiles, serving

CLIENTS, REQUESTS, BAD = 50, 2000, 10  # one in so many is bad


def many_clients(run: Path, given: list[bytes], folder: Path) -> dict[str, Any]:
    """Send 2,000 requests from 50 clients; the scores are compared with the model's own."""
    model, place = aeflow.load(run), folder / "image"
    right = []
    for content in given:
        place.write_bytes(content)
        right.append(model.score(place).value)
    codes: Counter[int] = Counter()
    faults: list[str] = []
    seconds: list[float] = []
    memory: list[float] = []
    numbers, one = iter(range(REQUESTS)), threading.Lock()

    def client_of(address: str) -> None:
        with httpx.Client(base_url=address, timeout=120) as client:
            while True:
                with one:
                    number = next(numbers, None)
                if number is None:
                    return
                _ask(client, number)

    def _ask(client: httpx.Client, number: int) -> None:
        bad = number % BAD == 0
        which = number % len(given)
        content = given[which][: 100 + number % 400] if bad else given[which]
        while True:
            began = time.perf_counter()
            try:
                answer = client.post("/api/score", files={"files": ("image", content)})
            except httpx.HTTPError as error:
                faults.append(type(error).__name__)
                return
            codes[answer.status_code] += 1
            if answer.status_code != 429:
                break
            time.sleep(0.2)
        seconds.append(time.perf_counter() - began)
        if answer.status_code != (422 if bad else 200):
            faults.append(f"{answer.status_code} for a {'bad' if bad else 'good'} request")
        elif not bad and answer.json()["results"][0]["score"] != right[which]:
            faults.append("a wrong score")
        if number % 100 == 99:
            memory.append(round(running.resident()))

    with serving(run, folder / "kept") as running:
        clients = [threading.Thread(target=client_of, args=(running.address,)) for _ in range(CLIENTS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
    counted = {str(code): number for code, number in sorted(codes.items())}
    shape = {"clients": CLIENTS, "requests": REQUESTS, "images": len(given)}
    return {**shape, "codes": counted, "faults": Counter(faults), **percentiles(seconds), "memory_mb": memory}
