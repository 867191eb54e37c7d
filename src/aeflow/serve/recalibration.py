"""Recalibration from the page: a new run beside the old one, on the normals that readers confirmed.

It runs as ``aeflow recalibrate`` in a process of its own, so that the service stays as small as it is without torch.
The service goes on with the model that it has; the page says how to start it with the new one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import select

from aeflow.artifacts.layout import is_export
from aeflow.errors import SettingsError
from aeflow.serve.before_after import PLACE as COMPARED
from aeflow.serve.before_after import Change, change_by
from aeflow.serve.filters import Filters
from aeflow.serve.intake import Intake
from aeflow.serve.labels import Labels
from aeflow.serve.tables import images, studies

PLACE = "recalibration-"  # beginning of the name of the folder with links to the images
LEAST = 20  # normals, as ``training.recalibrate`` asks for


@dataclass(frozen=True, slots=True)
class State:
    """How a recalibration stands."""

    running: bool = False
    out: Path | None = None
    found: str = ""  # what the command said
    failed: bool = False
    change: Change | None = None  # beside the model that serves


class Recalibration:
    """One recalibration at a time."""

    def __init__(self, run: Path, folder: Path, labels: Labels, intake: Intake) -> None:
        self.run, self.folder, self.labels, self.intake = run, folder, labels, intake
        self.state = State()
        self._one = threading.Lock()
        for name in (PLACE, COMPARED):
            for left in folder.glob(f"{name}*"):  # by a process that was killed
                shutil.rmtree(left)

    def lacks(self) -> str | None:
        """Return in a sentence why there can be none, None if there can."""
        if is_export(self.run):
            return "An exported model cannot be recalibrated: serve the run itself."
        if find_spec("torch") is None:
            return "Recalibration needs torch: pip install 'aeflow[train]'."
        return None

    def normals(self, chosen: Filters) -> list[str]:
        """Return the checksums of images under the filters that all their readers called normal, each a whole file."""
        under = select(images.c.content).join(studies, studies.c.id == images.c.study).where(*chosen.conditions())
        with self.labels.database.reading() as connection:
            kept = set(connection.scalars(under))
        found = [one.image for one in self.labels.agreed()[0] if one.label == "normal"]
        return [image.content for image in found if not image.slice and image.content in kept]

    def start(self, chosen: Filters) -> State:
        """Begin on the normals under the filters, and return how it stands; SettingsError if it cannot."""
        with self._one:
            if self.state.running:
                raise SettingsError("recalibration", "is running already", "wait for it")
            if lack := self.lacks():
                raise SettingsError("recalibration", "is not possible here", lack)
            normals = self.normals(chosen)
            if len(normals) < LEAST:
                found = f"{len(normals)} images are confirmed as normal"
                raise SettingsError("recalibration", found, f"confirm {LEAST} or more; 100 are better")
            stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            out = self.run.absolute().with_name(f"{self.run.absolute().name}-recalibrated-{stamp}")
            self.state = State(running=True, out=out)
            threading.Thread(target=self._run, args=(normals, out), name="recalibration", daemon=True).start()
            return self.state

    def _run(self, normals: list[str], out: Path) -> None:
        """Run the command on links to the images, and keep what it says."""
        place = Path(tempfile.mkdtemp(dir=self.folder, prefix=PLACE))
        try:
            for number, content in enumerate(normals):
                os.link(self.intake.path_of(content), place / f"{number:06}")
            command = [sys.executable, "-m", "aeflow", "recalibrate", str(self.run), str(place), "--out", str(out)]
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            self.state = replace(self.state, found=(done.stdout if done.returncode == 0 else done.stderr).strip())
            if done.returncode:
                self.state = replace(self.state, running=False, failed=True)
                return
            threshold = self.intake.scorer.calibration.threshold
            change = change_by(out, self.labels.database, self.intake, threshold)
            self.state = replace(self.state, running=False, change=change)
        except subprocess.CalledProcessError as error:  # the run is there, and its images could not be scored
            said = f"{self.state.found}\nwhat it changes is not known: {error.stderr.strip()}"
            self.state = replace(self.state, running=False, found=said)
        except OSError as error:
            self.state = replace(self.state, running=False, found=error.strerror or "failed", failed=True)
        finally:
            self.state = replace(self.state, running=False)  # whatever else went wrong is in the log
            shutil.rmtree(place, ignore_errors=True)
