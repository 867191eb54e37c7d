"""Health: the service counts as healthy once its decoders and its model did here what they did where they were made."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from aeflow.data.loader import Decoded
from aeflow.data.records import Record
from aeflow.deploy.self_check import self_check
from aeflow.errors import AeflowError
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.image import Acquisition
from aeflow.scoring.scorer import Scorer
from aeflow.serve.scoring_queue import ScoringQueue


class Health:
    """State of the checks, which run once, beside the service.

    The model's own self-test was passed when it was opened (``deploy.open_model``), else there would be no scorer.
    """

    def __init__(self, scorer: Scorer, queue: ScoringQueue) -> None:
        self._scorer, self._queue = scorer, queue
        calls = f"{scorer.fingerprint[:12]} scores its test images as it should, with {scorer.backend.name}"
        self._found: dict[str, str] = {"model": calls}
        self._state = "starting"
        threading.Thread(target=self._check, name="health", daemon=True).start()

    @property
    def healthy(self) -> bool:
        """If all checks passed."""
        return self._state == "healthy"

    def shown(self) -> dict[str, Any]:
        """Return the state, and what each check found."""
        return {"status": self._state, **self._found}

    def _check(self) -> None:
        try:
            self._warm_up()
            for name, found in self_check():
                self._found[name] = "passed" if name == "reads" else found  # its words name a folder
            self._state = "healthy"
        except AeflowError as error:
            self._found["failed"] = error.found
            self._state = "failed"
        except Exception as error:  # what runtimes find wrong with a graph has no base in common
            self._found["failed"] = type(error).__name__
            self._state = "failed"

    def _warm_up(self) -> None:
        """Compile what a score with its map needs, and start the decoders, before anyone waits for them."""
        size = self._scorer.backend.size
        ramp = np.linspace(0, 1, size, dtype=np.float32)
        x = np.broadcast_to(ramp[:, None] * ramp, (1, 3, size, size)).copy()
        record = Record(Path("warm-up"), "warm-up", None, None, "", None, None)
        self._queue.submit(record, Decoded(x[0], Acquisition())).result()
        decoders().submit(pid_of, Path("warm-up")).result()


def pid_of(_: Path) -> int:
    """Return the number of a decoder's process, which runs then."""
    return os.getpid()
