"""Measures of the running service as Prometheus reads them: requests, seconds of a score, what waits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds, upper ends of the histogram
TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Measures:
    """Counters of this process, from its start."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._images: Counter[str] = Counter(scored=0, refused=0)
        self._labels: Counter[str] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0
        self._scores = 0

    def request(self, method: str, route: str, status: int) -> None:
        """Count a request by the pattern of its address, which holds no identifier."""
        with self._one:
            self._requests[method, route, status] += 1

    def scored(self, images: int, refused: int, seconds: float) -> None:
        """Count the images of a request, and the time until it was answered."""
        with self._one:
            self._images["scored"] += images
            self._images["refused"] += refused
            self._seconds += seconds
            self._scores += 1
            for bound in BOUNDS:
                self._buckets[bound] += seconds <= bound

    def labelled(self, label: str) -> None:
        """Count a label."""
        with self._one:
            self._labels[label] += 1

    def text(self, waiting: int, healthy: bool) -> str:
        """Return all of them, one a line."""
        with self._one:
            return "\n".join([*self._lines(waiting, healthy), ""])

    def _lines(self, waiting: int, healthy: bool) -> Iterator[str]:
        yield from _head("aeflow_requests_total", "counter", "Requests by method, route and status.")
        for (method, route, status), number in sorted(self._requests.items()):
            yield f'aeflow_requests_total{{method="{method}",route="{route}",status="{status}"}} {number}'
        yield from _head("aeflow_images_total", "counter", "Images that were scored or refused.")
        for result, number in sorted(self._images.items()):
            yield f'aeflow_images_total{{result="{result}"}} {number}'
        yield from _head("aeflow_labels_total", "counter", "Labels that readers gave.")
        for label, number in sorted(self._labels.items()):
            yield f'aeflow_labels_total{{label="{label}"}} {number}'
        yield from _head("aeflow_score_seconds", "histogram", "Seconds from an upload to its answer.")
        for bound in BOUNDS:
            yield f'aeflow_score_seconds_bucket{{le="{bound:g}"}} {self._buckets[bound]}'
        yield f'aeflow_score_seconds_bucket{{le="+Inf"}} {self._scores}'
        yield f"aeflow_score_seconds_sum {self._seconds:.6f}"
        yield f"aeflow_score_seconds_count {self._scores}"
        yield from _head("aeflow_waiting", "gauge", "Uploads that wait or are being scored.")
        yield f"aeflow_waiting {waiting}"
        yield from _head("aeflow_healthy", "gauge", "1 if the service scores as it should.")
        yield f"aeflow_healthy {int(healthy)}"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
