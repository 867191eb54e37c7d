"""Train normals most like an image, shown beside it; this needs the run with its network, and torch."""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from aeflow.artifacts.layout import NORMALS, holds, is_export
from aeflow.data.loader import in_colour, load
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.image import Slice

if TYPE_CHECKING:
    from aeflow.artifacts.run import Artifact

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A train normal, without a name."""

    number: int
    distance: float
    address: str  # of its picture, which is in it
    side: int  # of the picture, in pixels


class NearestNormals:
    """Search among the reference normals of a run; the network is loaded when it is first asked."""

    def __init__(self, run: Path, size: int) -> None:
        self.run, self.size = run, size
        self._one = threading.Lock()
        self._artifact: Artifact | None = None

    def lacks(self) -> str | None:
        """Return in a sentence why there is no search, None if there is one."""
        if is_export(self.run):
            return "An exported model holds no train normals to compare with: serve the run itself."
        if find_spec("torch") is None:
            return "Comparing with train normals needs torch: pip install 'aeflow[train]'."
        if not holds(self.run, NORMALS):
            return f"This run holds no train normals ({NORMALS} is not there)."
        return None

    def of(self, path: Path, at: Slice | None) -> list[Neighbour]:
        """Return the nearest normals of an image, nearest first; ImageError if it cannot be read."""
        import torch

        from aeflow.artifacts.reference_normals import ReferenceNormals
        from aeflow.artifacts.run import load_run
        from aeflow.model.pooling import pool

        image = in_colour(decoders().submit(load, path, self.size, at).result())
        with self._one, torch.inference_mode():
            if self._artifact is None:
                self._artifact = load_run(self.run)
            net = self._artifact.net
            s = pool(net.flow_features(net.seen(torch.from_numpy(image.pixels[None]))))[0]
        table = ReferenceNormals.load(self.run, len(s))
        found = [] if table is None else table.nearest(s, SHOWN)
        return [Neighbour(one.number, one.distance, _address(one.picture), len(one.picture)) for one in found]


def _address(picture: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    content = io.BytesIO()
    PIL.Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(content, "png")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
