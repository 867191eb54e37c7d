"""Cache of the frozen encoder's features: computed once, kept on disk.

::

    CACHE/<key of encoder, preprocessing, change and arithmetic>/<shard>/
        features.npy   (n, d), all maps of an image in one row: float16, pooled vectors float32
        pixels.npy     (n, 3, H, W) uint8, the image as seen in its box, the target of the decoder; none for pooled
                       features
        images.json    who computed them; SHA-256 of each row's image file, its slice and view, and its acquisition
        about.json     a checksum of each of these

The features of an image are the same to the last bit whether they come from the cache or not, and whatever else is in
it (``features.arithmetic``). A shard is written under another name and then renamed, so a killed run leaves complete
shards or none, and two runs may fill the same cache. A damaged shard is computed anew. The cache may be cleared, or
deleted, at any time (``aeflow.runtime.cache``).
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import math
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aeflow.config import Settings
from aeflow.data.augment import Change, augment, of_reach
from aeflow.data.loader import batches
from aeflow.data.records import Record, Refusals
from aeflow.errors import ArtifactError, NumericalError
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.cached_features import Features, Row, Shard
from aeflow.features.mapped import allow_many_files, mapped, too_many_files
from aeflow.features.row_encoder import BATCH, RowEncoder
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Acquisition
from aeflow.imageio.limits import LIMITS
from aeflow.model.encoder import Encoder
from aeflow.model.front import Front, Pooled
from aeflow.runtime import ranks
from aeflow.runtime.cache import (
    IMAGES,
    SHARD,
    WRITING,
    cache_root,
    discard,
    feature_folder,
    note_damage,
    seal,
    verify,
)
from aeflow.runtime.cache_limit import Use, make_room
from aeflow.runtime.files import content, replacing, write_text
from aeflow.runtime.folders import publish, scratch

FEATURES, PIXELS = "features.npy", "pixels.npy"
SHARD_IMAGES = 256  # images that are held in memory before they are written
ATTEMPTS = 10  # to write a shard into a cache that others delete meanwhile

# Type of feature maps on disk: half the bytes, a relative error of at most 2**-11, and no AUROC that moves by 0.002
# (benchmarks/studies/half_precision.py). The default encoder's largest feature is near 60, the largest float16 65504.
STORED: type[np.floating[Any]] = np.float16

FORMAT_VERSION = 4  # version of the files above and of the preprocessing; another number makes old caches unused

Keyed = tuple[Record, str | None]  # an image, and the key of its features


class FeatureCache:
    """Features of one encoder at one image size, under ``root``; ``change`` makes the augmented views."""

    def __init__(
        self,
        encoder: Encoder | Front | Pooled,
        image_size: int,
        root: Path | None = None,
        change: Change = augment,
        arithmetic: Arithmetic | None = None,
        rows: RowEncoder | None = None,
    ) -> None:
        """Open the cache; without an ``arithmetic`` torch computes. ``rows`` is the encoder of another cache."""
        self.encoder = encoder
        self.image_size = image_size
        self.root = root or cache_root()
        self.pixels = isinstance(encoder, Encoder | Front)
        self._sees = isinstance(encoder, Front)  # its first map is the image as seen
        self.dtype = np.dtype(STORED if self.pixels else np.float32)  # pooled vectors are small
        self.change = change
        self._rows_of = rows or RowEncoder(encoder, image_size, arithmetic)
        key = [FORMAT_VERSION, encoder.name, list(encoder.stages), encoder.fingerprint(), image_size, change.__name__]
        key += [self.dtype.name, self._rows_of.arithmetic.to_json()]
        self.folder = feature_folder(self.root, hashlib.sha256(json.dumps(key).encode()).hexdigest())
        self.what = f"{encoder.name} {','.join(map(str, encoder.stages))}, {image_size} px, {change.__name__}"
        self.shapes = self._rows_of.shapes[1:] if self._sees else self._rows_of.shapes
        self._whole: set[Path] = set()  # shards that were read as they were written
        self._use = Use(self.folder)
        allow_many_files()

    @classmethod
    def of(
        cls, front: Front | Encoder, settings: Settings, root: Path | None = None, arithmetic: Arithmetic | None = None
    ) -> Self:
        """Return the cache of a training with these settings."""
        return cls(front, settings.image_size, root, of_reach(settings.view_reach), arithmetic)

    def changed_by(self, change: Change) -> FeatureCache:
        """Return the cache whose views another change makes; it shares the OpenVINO graph of this one."""
        return FeatureCache(self.encoder, self.image_size, self.root, change, rows=self._rows_of)

    def features(
        self, records: Sequence[Record], advance: Callable[[int], None] = lambda n: None, view: int = 0
    ) -> tuple[Features, Refusals]:
        """Return the features of all records that can be read, in order, and the refusals; compute only missing ones.

        View 0 is the image itself, others are changed views of it. ``advance`` is called with the number of records
        handled since its last call.
        """
        return self._found(records, self._keys(records, view), {}, advance)

    def divided(
        self, records: Sequence[Record], advance: Callable[[int], None] = lambda n: None, view: int = 0
    ) -> tuple[Features, Refusals]:
        """Return what ``features`` does, to all processes of a training: each checks and computes a share."""
        if ranks.size() == 1:
            return self.features(records, advance, view)
        keys = [key for part in ranks.gathered(self._keys(ranks.share(records), view)) for key in part]
        wanted = {key for key in keys if key is not None}
        self._known(wanted, [self.folder / name for name in ranks.share(ranks.from_first(self._shards))])
        self._whole.update(self.folder / name for part in ranks.gathered([*map(_name, self._whole)]) for name in part)
        missing = ranks.from_first(lambda: _missing(keys, self._known(wanted)))
        advance(len(records) - len(missing))
        mine = [(records[i], keys[i]) for i in ranks.share(missing)]
        refused = ranks.gathered(self._compute(mine, {}, lambda n: advance(n * ranks.size())))
        return self._found(records, keys, {record: error for part in refused for record, error in part.items()})

    def _keys(self, records: Sequence[Record], view: int) -> list[str | None]:
        """Return the key of each record's features, None if its file cannot be opened."""
        digests = {path: content(path, LIMITS.max_bytes) for path in {record.path for record in records}}
        return [image_key(record, digests[record.path], view) for record in records]

    def _found(
        self,
        records: Sequence[Record],
        keys: Sequence[str | None],
        refused: dict[Record, ImageError],
        advance: Callable[[int], None] = lambda n: None,
    ) -> tuple[Features, Refusals]:
        """Return the features of records with these keys and all refusals, some of which are known already."""
        known = self._known({key for key in keys if key is not None})
        missing = [(records[i], keys[i]) for i in _missing(keys, known) if records[i] not in refused]
        advance(len(records) - len(missing))
        refused = refused | self._compute(missing, known, advance)
        kept = [(record, str(key)) for record, key in zip(records, keys, strict=True) if record not in refused]
        rows = [known[key] for _, key in kept]
        return Features([record for record, _ in kept], [key for _, key in kept], rows, self.shapes), [*refused.items()]

    def _compute(
        self, missing: Sequence[Keyed], known: dict[str | None, Row], advance: Callable[[int], None]
    ) -> dict[Record, ImageError]:
        """Compute features of records and write them, shard by shard; add their rows to ``known``, return refusals."""
        refused: dict[Record, ImageError] = {}
        for start in range(0, len(missing), SHARD_IMAGES):
            written, refusals = self._write_shard(missing[start : start + SHARD_IMAGES], advance)
            known |= written
            refused |= refusals
        return refused

    def _shards(self) -> list[str]:
        """Return the names of the stored shards."""
        return sorted(shard.name for shard in self.folder.glob(f"{SHARD}*"))

    def _known(self, wanted: set[str], shards: Sequence[Path] | None = None) -> dict[str | None, Row]:
        """Return the rows by key of stored shards, all or these, that hold wanted ones.

        A damaged shard is deleted with a note.
        """
        known: dict[str | None, Row] = {}
        for shard in [self.folder / name for name in self._shards()] if shards is None else shards:
            try:
                known |= self._rows(shard, wanted)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    raise too_many_files(self.folder) from error
                if shard.exists():  # else it was cleared just now
                    note_damage(shard, error)
                    discard(shard, self.root)
        return known

    def _rows(self, shard: Path, wanted: set[str]) -> dict[str | None, Row]:
        """Return the rows of one shard by key, if one is wanted; raise OSError or ValueError if it is damaged.

        Arrays are checked once and then read as they are needed.
        """
        verify(shard, IMAGES)
        stored = json.loads((shard / IMAGES).read_text(encoding="utf-8"))
        if not any(key in wanted for key, _ in stored["rows"]):
            return {}
        if shard not in self._whole:
            verify(shard, FEATURES, *([PIXELS] if self.pixels else []))
            self._whole.add(shard)
        features, *files = mapped(shard / FEATURES)
        pixels = None
        if self.pixels:
            pixels, file = mapped(shard / PIXELS)
            files.append(file)
        width = sum(math.prod(shape) for shape in self.shapes)
        n = len(stored["rows"])
        if features.shape != (n, width) or features.dtype != self.dtype or (pixels is not None and len(pixels) != n):
            raise ValueError("its arrays do not fit together")
        facts = [acquisition(**of_image | {"size": tuple(of_image["size"])}) for _, of_image in stored["rows"]]
        opened = Shard(features, pixels, facts, stored["by"], tuple(files), self._use)
        self._use.mark(shard)
        return {key: Row(opened, row) for row, (key, _) in enumerate(stored["rows"])}

    def _write_shard(
        self, keyed: Sequence[Keyed], advance: Callable[[int], None]
    ) -> tuple[dict[str | None, Row], dict[Record, ImageError]]:
        """Compute and write one shard; return its rows by key and the refused records."""
        contents = dict(keyed)
        refused: dict[Record, ImageError] = {}
        rows, pixels, images = [], [], []
        for batch in batches([record for record, _ in keyed], self.image_size, BATCH):
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
        arrays = {FEATURES: np.concatenate(rows)} | ({PIXELS: np.concatenate(pixels)} if self.pixels else {})
        return self._stored(arrays, images), refused

    def _stored(self, arrays: dict[str, NDArray[Any]], images: list[tuple[str | None, Any]]) -> dict[str | None, Row]:
        """Write one shard, again if others delete the cache meanwhile, and return its rows by key."""
        make_room(self.root, sum(array.nbytes for array in arrays.values()))
        for _ in range(ATTEMPTS):
            with suppress(FileNotFoundError):
                return self._written(arrays, images)
        raise ArtifactError(self.folder, "somebody deletes it again and again", "name another folder in AEFLOW_CACHE")

    def _written(self, arrays: dict[str, NDArray[Any]], images: list[tuple[str | None, Any]]) -> dict[str | None, Row]:
        with scratch(self.folder, WRITING) as writing:
            for name, array in arrays.items():
                _save(writing / name, array)
            write_text(writing / IMAGES, json.dumps({"by": self._rows_of.by, "rows": images}))
            seal(writing, self.what)
            # opened before anyone can clear it
            known = self._rows(writing, {key for key, _ in images if key is not None})
            place = self.folder / f"{SHARD}{writing.parent.name.removeprefix(WRITING)}"
            publish(writing, place)
        self._whole.add(place)
        return known

    def _encode(self, x: Tensor) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return the features of images ``x`` (B, 3, H, W) as they are stored, one row each, and the images as seen."""
        full = self._rows_of(x)
        pixels: NDArray[np.float32] = x.numpy()
        if self._sees:
            count = math.prod(x.shape[1:])
            pixels, full = full[:, :count].reshape(x.shape), full[:, count:]
        largest, limit = float(np.abs(full).max()), float(np.finfo(self.dtype).max)
        if not largest <= limit:  # true for NaN, too
            found = f"its features reach {largest:g} where the cache holds up to {limit:g}"
            raise NumericalError(f"encoder {self.encoder.name}", found, "take other --set stages, or another encoder")
        return full.astype(self.dtype), pixels


def _save(path: Path, array: NDArray[Any]) -> None:
    """Write an array; raises OSError with its reason, which NumPy leaves out where it writes by itself."""
    with replacing(path) as file:
        whole = np.ascontiguousarray(array)
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.data)


def _missing(keys: Sequence[str | None], known: Container[str | None]) -> list[int]:
    """Return the positions of the keys that are not known."""
    return [i for i, key in enumerate(keys) if key not in known]


acquisition = functools.lru_cache(maxsize=4096)(Acquisition)  # one object for all images that were taken alike


def _name(shard: Path) -> str:
    return shard.name


def image_key(record: Record, digest: str | None, view: int) -> str | None:
    """Return the key of an image and view: the digest of its file, its slice, and the view; None without a digest."""
    if digest is None:
        return None
    where = "" if record.at is None else f":{record.at.axis or 'frame'}:{record.at.index}"
    return f"{digest}{where}" + (f"/{view}" if view else "")
