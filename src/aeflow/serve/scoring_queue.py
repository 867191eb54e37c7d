"""Queue before the network: what waits is scored together, and each gets its own score.

One thread runs the network, so that no two callers meet in it. A backend that computes images one by one
(``one_by_one``) gives the same score in any company; for any other, images go through alone, so that a score does not
depend on what else waited.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future

from aeflow.data.loader import Decoded
from aeflow.data.records import Record
from aeflow.imageio.errors import ImageError
from aeflow.scoring.scorer import BATCH, Score, Scorer, score_images

Task = tuple[Record, Decoded, "Future[Score | ImageError]"]


class ScoringQueue:
    """A thread that scores decoded images, with their maps."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._most = BATCH if getattr(scorer.backend, "one_by_one", False) else 1
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def submit(self, record: Record, image: Decoded) -> Future[Score | ImageError]:
        """Score an image; the future has its score, or the ImageError that refuses it."""
        future: Future[Score | ImageError] = Future()
        self._tasks.put((record, image, future))
        return future

    def close(self) -> None:
        """End the thread, after what waits."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        """Score what comes until None does."""
        while (first := self._tasks.get()) is not None:
            batch, last = [first], False
            while len(batch) < self._most and not last:
                try:
                    following = self._tasks.get_nowait()
                except queue.Empty:
                    break
                last = following is None
                if following is not None:
                    batch.append(following)
            self._score(batch)
            if last:
                return

    def _score(self, batch: list[Task]) -> None:
        """Score images together, and hand each caller its own result, or the error that all of them met."""
        try:
            images = [(record, image) for record, image, _ in batch]
            found = score_images(self._scorer, images, maps=True, batch_size=len(batch))
            for (_, result), (_, _, future) in zip(found, batch, strict=True):
                future.set_result(result)
        except Exception as error:  # handed to whoever waits for it
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(error)
