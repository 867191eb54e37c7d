"""Cache of the frozen encoder's features: computed once, kept on disk.

::

    CACHE/<key of encoder, preprocessing and change>/<shard>/
        features.npy   (n, d), all maps of an image in one row: float16, pooled vectors float32
        pixels.npy     (n, 3, H, W) uint8, the image as seen in its box, the target of the decoder; none for pooled
                       features
        images.json    SHA-256 of each row's image file, its slice and view, and its acquisition

On a CPU the features of many images are computed by OpenVINO, after a check that they equal torch's.

A shard is written under another name and then renamed, so a killed run leaves complete shards or none, and two runs
may fill the same cache. The cache may be cleared at any time (``aeflow.runtime.cache``).
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aeflow.backends.openvino import OpenVINOBackend
from aeflow.config import Settings
from aeflow.data.augment import Change, augment, of_reach
from aeflow.data.loader import batches
from aeflow.data.records import Record
from aeflow.errors import NumericalError
from aeflow.features.cached_features import Features, Row
from aeflow.features.openvino_encoder import GRAPH_FROM_IMAGES, EncoderGraph
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Acquisition
from aeflow.imageio.limits import LIMITS
from aeflow.model.encoder import Encoder
from aeflow.model.front import Front, Pooled
from aeflow.runtime.cache import IMAGES, SHARD, WRITING, cache_root, describe, discard, feature_folder, mark_used
from aeflow.runtime.device import images_on, in_parts
from aeflow.runtime.files import content, replacing, write_text
from aeflow.runtime.folders import publish, scratch

SHARD_IMAGES = 256  # images that are held in memory before they are written
BATCH = 16  # images that pass the encoder together

# Type of feature maps on disk: half the bytes, a relative error of at most 2**-11, and no AUROC that moves by 0.002
# (benchmarks/studies/half_precision.py). The default encoder's largest feature is near 60, the largest float16 65504.
STORED: type[np.floating[Any]] = np.float16

FORMAT_VERSION = 3  # version of the files above and of the preprocessing; another number makes old caches unused


class FeatureCache:
    """Features of one encoder at one image size, under ``root``; ``change`` makes the augmented views."""

    def __init__(
        self, encoder: Encoder | Front | Pooled, image_size: int, root: Path | None = None, change: Change = augment
    ) -> None:
        self.encoder = encoder
        self.image_size = image_size
        self.root = root or cache_root()
        self.change = change
        self.pixels = isinstance(encoder, Encoder | Front)
        self._sees = isinstance(encoder, Front)  # its first map is the image as seen
        self.dtype = np.dtype(STORED if self.pixels else np.float32)  # pooled vectors are small
        self.batch_size = BATCH  # fewer once the device's memory has run out
        key = [FORMAT_VERSION, encoder.name, list(encoder.stages), encoder.fingerprint(), image_size, change.__name__]
        key += [self.dtype.name]
        self.folder = feature_folder(self.root, hashlib.sha256(json.dumps(key).encode()).hexdigest())
        self.what = f"{encoder.name} {','.join(map(str, encoder.stages))}, {image_size} px, {change.__name__}"
        self.device = encoder.mean.device
        self.shapes = self._shapes()
        self._graph: EncoderGraph | None = None
        self._graph_untried = self.device.type == "cpu" and OpenVINOBackend.installed()
        self._many = False  # images that are missing now

    @classmethod
    def of(cls, front: Front | Encoder, settings: Settings, root: Path | None = None) -> Self:
        """Return the cache of a training with these settings."""
        return cls(front, settings.image_size, root, of_reach(settings.view_reach))

    def changed_by(self, change: Change) -> FeatureCache:
        """Return the cache whose views another change makes; it shares the OpenVINO graph, once proven, of this one."""
        other = FeatureCache(self.encoder, self.image_size, self.root, change)
        other._graph, other._graph_untried = self._graph, self._graph_untried
        return other

    def features(
        self, records: Sequence[Record], advance: Callable[[int], None] = lambda n: None, view: int = 0
    ) -> tuple[Features, list[tuple[Record, ImageError]]]:
        """Return the features of all records that can be read, in order, and the refusals; compute only missing ones.

        View 0 is the image itself, others are changed views of it. ``advance`` is called with the number of records
        handled since its last call.
        """
        digests = {path: content(path, LIMITS.max_bytes) for path in {record.path for record in records}}
        contents = {record: image_key(record, digests[record.path], view) for record in records}
        known = self._known()
        missing = [record for record in records if contents[record] not in known]
        advance(len(records) - len(missing))
        self._many = len(missing) >= GRAPH_FROM_IMAGES
        refused: dict[Record, ImageError] = {}
        for start in range(0, len(missing), SHARD_IMAGES):
            written, refusals = self._write_shard(missing[start : start + SHARD_IMAGES], contents, advance)
            known |= written
            refused |= refusals
        kept = [record for record in records if record not in refused]
        keys = [str(contents[record]) for record in kept]
        rows = [known[key] for key in keys]
        return Features(kept, keys, rows, self.shapes), list(refused.items())

    def _shapes(self) -> list[tuple[int, int, int]]:
        blank = torch.zeros(1, 3, self.image_size, self.image_size, device=self.device)
        shapes = [(z.shape[1], z.shape[2], z.shape[3]) for z in self.encoder(blank)]
        return shapes[1:] if self._sees else shapes

    def _known(self) -> dict[str | None, Row]:
        """Return the stored rows by key; a damaged shard is deleted with a warning."""
        known: dict[str | None, Row] = {}
        for shard in sorted(self.folder.glob(f"{SHARD}*")):
            try:
                known |= self._rows(shard)
            except (OSError, ValueError) as error:
                if shard.exists():  # else it was cleared just now
                    warnings.warn(f"{shard}: damaged cache ({error}); deleted, to be computed again", stacklevel=3)
                    discard(shard, self.root)
        if known:
            mark_used(self.folder)
        return known

    def _rows(self, shard: Path) -> dict[str | None, Row]:
        """Return the rows of one shard by key, read as they are needed; raise OSError or ValueError if damaged."""
        images = json.loads((shard / IMAGES).read_text())
        features = np.load(shard / "features.npy", mmap_mode="r")
        pixels = np.load(shard / "pixels.npy", mmap_mode="r") if self.pixels else None
        width = sum(math.prod(shape) for shape in self.shapes)
        fits = features.shape == (len(images), width) and features.dtype == self.dtype
        if not fits or (pixels is not None and len(pixels) != len(images)):
            raise ValueError("its arrays do not fit together")
        return {
            key: Row(features, pixels, row, Acquisition(facts["kind"], facts["colours"], tuple(facts["size"])))
            for row, (key, facts) in enumerate(images)
        }

    def _write_shard(
        self, records: Sequence[Record], contents: dict[Record, str | None], advance: Callable[[int], None]
    ) -> tuple[dict[str | None, Row], dict[Record, ImageError]]:
        """Compute and write one shard; return its rows by key and the refused records."""
        refused: dict[Record, ImageError] = {}
        rows, pixels, images = [], [], []
        for batch in batches(records, self.image_size, BATCH):
            read = [(record, x.pixels) for record, x in batch if not isinstance(x, ImageError)]
            images += [
                (contents[record], asdict(x.acquisition)) for record, x in batch if not isinstance(x, ImageError)
            ]
            refused |= {record: x for record, x in batch if isinstance(x, ImageError)}
            if read:
                pictures = [
                    x if "/" not in (key := str(contents[record])) else self.change(x, key) for record, x in read
                ]
                x = torch.from_numpy(np.stack(pictures))
                found, seen = self._encode(x)
                rows.append(found)
                pixels.append((seen * 255).round().clip(0, 255).astype(np.uint8))
            advance(len(batch))
        if not images:
            return {}, refused
        with scratch(self.folder, WRITING) as writing:
            _save(writing / "features.npy", np.concatenate(rows))
            if self.pixels:
                _save(writing / "pixels.npy", np.concatenate(pixels))
            write_text(writing / IMAGES, json.dumps(images))
            describe(writing, self.what)
            known = self._rows(writing)  # opened before anyone can clear it
            publish(writing, self.folder / f"{SHARD}{writing.parent.name.removeprefix(WRITING)}")
        return known, refused

    def _encode(self, x: Tensor) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return the features of images ``x`` (B, 3, H, W) as they are stored, one row each, and the images as seen."""
        full = self._by_torch(x) if self._graph is None else self._graph(x.numpy())
        if self._many and self._graph_untried:
            self._graph_untried = False
            widths = [math.prod(shape) for shape in self.shapes]
            seen = [math.prod(x.shape[1:])] if self._sees else []
            self._graph = EncoderGraph.proven(self.encoder, seen + widths, x.numpy(), full)
        pixels: NDArray[np.float32] = x.numpy()
        if self._sees:
            count = math.prod(x.shape[1:])
            pixels, full = full[:, :count].reshape(x.shape), full[:, count:]
        largest, limit = float(np.abs(full).max()), float(np.finfo(self.dtype).max)
        if not largest <= limit:  # true for NaN, too
            found = f"its features reach {largest:g} where the cache holds up to {limit:g}"
            raise NumericalError(f"encoder {self.encoder.name}", found, "take other --set stages, or another encoder")
        return full.astype(self.dtype), pixels

    def _by_torch(self, x: Tensor) -> NDArray[np.float32]:
        def rows(part: Tensor) -> Tensor:
            return torch.cat([z.flatten(1) for z in self.encoder(images_on(part, self.device))], dim=1)

        parts, self.batch_size = in_parts(rows, self.batch_size, x)
        full: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return full


def _save(path: Path, array: NDArray[Any]) -> None:
    """Write an array; raises OSError with its reason, which NumPy leaves out where it writes by itself."""
    with replacing(path) as file:
        whole = np.ascontiguousarray(array)
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.data)


def image_key(record: Record, digest: str | None, view: int) -> str | None:
    """Return the key of an image and view: the digest of its file, its slice, and the view; None without a digest."""
    if digest is None:
        return None
    where = "" if record.at is None else f":{record.at.axis or 'frame'}:{record.at.index}"
    return f"{digest}{where}" + (f"/{view}" if view else "")
