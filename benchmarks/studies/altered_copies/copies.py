"""Versions of an image in which only a part of it can be seen, made with its lungs as the shipped region finds them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.data.records import Record, read_records
from aeflow.model.box import box_of, crop
from aeflow.model.encoder import Encoder
from aeflow.model.encoder_weights import pretrained
from aeflow.model.regions.lungs import Lungs
from benchmarks.common import CHEST
from benchmarks.inputs import pixels_of

SIZE = 224
GREY, DARK = 0.5, 0.25  # what is painted; the outline is grey on dark
BATCH = 16
STAGES = (1, 2, 3)  # of the encoder, that the lungs are found in

# By name, a function of images x (B, 1, H, W) in [0, 1], their lungs (B, 1, H, W) as 0 or 1, and the boxes around them.
Alter = Callable[[Tensor, Tensor, Tensor], Tensor]
VERSIONS: dict[str, Alter] = {
    "lungs painted over": lambda x, lungs, _: torch.where(lungs > 0, GREY, x),
    "lungs alone": lambda x, lungs, _: torch.where(lungs > 0, x, GREY),
    "cropped to the lungs": lambda x, _, box: crop(x, box),
    "outline alone": lambda _, lungs, __: torch.where(lungs > 0, GREY, DARK),
}


class LungFinder:
    """Lungs of images, as the shipped region finds them."""

    def __init__(self) -> None:
        encoder = pretrained("tf_efficientnet_lite0", STAGES)
        assert isinstance(encoder, Encoder)
        self.encoder, self.region = encoder.eval(), Lungs(encoder).eval()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lungs (B, 1, H, W), 0 or 1, and the boxes around them (B, 4) of grey images x (B, 1, H, W)."""
        found = self.region(x.expand(-1, 3, -1, -1), self.encoder)
        return (found > 0.5).to(x.dtype), box_of(F.adaptive_avg_pool2d(found, SIZE // 4))


def seen(records: list[Record], find: LungFinder) -> Iterator[tuple[list[Record], dict[str, tuple[Tensor, Tensor]]]]:
    """Yield some records at a time, and their images and lungs (B, 1, H, W) in each version, "whole image" first."""
    for start in range(0, len(records), BATCH):
        some = records[start : start + BATCH]
        x = torch.from_numpy(np.stack(list(pixels_of(some, SIZE)))).mean(dim=1, keepdim=True)
        lungs, box = find(x)
        found = {"whole image": (x, lungs)}
        for name, alter in VERSIONS.items():
            inside = (crop(lungs, box) > 0.5).to(x.dtype) if name == "cropped to the lungs" else lungs
            found[name] = alter(x, lungs, box), inside
        yield some, found


def write_copies(
    data: Path, out: Path, find: LungFinder
) -> Iterator[tuple[list[Record], dict[str, tuple[Tensor, Tensor]]]]:
    """Write ``out/VERSION/chest_xray_224`` in aeflow's layout as PNG, without the train abnormal images.

    Yields what ``seen`` does, as it goes.
    """
    records = [record for record in read_records(data) if record.split == "test" or record.label == 0]
    for name in VERSIONS:
        _write_manifest(data, out / name / CHEST, records)
    for some, found in seen(records, find):
        for name in VERSIONS:
            for record, x in zip(some, found[name][0], strict=True):
                path = _place(record, data, out / name / CHEST)
                path.parent.mkdir(parents=True, exist_ok=True)
                as_picture(x).save(path)
        yield some, found


def as_picture(x: Tensor) -> PIL.Image.Image:
    """Return an image (1, H, W) in [0, 1] in 8 bits."""
    return PIL.Image.fromarray((x[0] * 255).round().clamp(0, 255).to(torch.uint8).numpy())


def _place(record: Record, data: Path, out: Path) -> Path:
    return (out / record.path.relative_to(data)).with_suffix(".png")


def _write_manifest(data: Path, out: Path, records: list[Record]) -> None:
    """Write who is who: patient, split and label of each copy."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "label", "patient"])
        for record in records:
            place = _place(record, data, out).relative_to(out)
            writer.writerow([place.as_posix(), record.split, record.label, record.patient])
