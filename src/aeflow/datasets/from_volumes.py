"""BraTS volumes cut into slices: those without tumour are the normal images of patients who have one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from aeflow.data.loader import ahead_of
from aeflow.data.masks import MASK
from aeflow.data.records import Record
from aeflow.datasets.recipe import Splits, entry
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import EmptyImageError, ImageError
from aeflow.imageio.image import Slice
from aeflow.runtime.files import replacing
from aeflow.runtime.progress import bar

SLICES = range(60, 101, 5)  # of 155, 1 mm apart: the middle of the brain, far enough apart to differ
Cut = tuple[int, NDArray[np.uint8], NDArray[np.bool_]]  # index, FLAIR, tumour


def cases(root: Path) -> list[Record]:
    """Return a record for each volume.

    ``CASE/CASE_flair.nii.gz`` and ``CASE/CASE_seg.nii.gz``, or the same as ``.nii``.
    """
    return [
        entry(root, _volume(folder, "flair"), None, None, "volume", folder.name, _volume(folder, "seg"))
        for folder in sorted(root.glob("BraTS2021_*"))
        if folder.is_dir()
    ]


def _volume(folder: Path, what: str) -> Path:
    """Return the path of one of a case's volumes."""
    path = folder / f"{folder.name}_{what}.nii"
    return path if path.exists() else path.with_name(f"{path.name}.gz")


def cut(flair: Path, seg: Path) -> list[Cut]:
    """Return the slices of a volume with their tumour, 8-bit on one scale for the volume; empty slices are left out."""
    from aeflow.imageio.reader import read_image, read_mask  # pydicom takes a while to load

    slices = {}
    for index in SLICES:
        try:
            pixels = read_image(flair, at=Slice(index, "axial")).pixels
        except EmptyImageError:
            continue
        slices[index] = np.rint(255 * pixels).astype(np.uint8)
    # All slices of one volume, then of the other: the reader keeps only the last volume decoded.
    return [(index, pixels, read_mask(seg, at=Slice(index, "axial"))) for index, pixels in slices.items()]


def write_slices(splits: Splits, out: Path) -> Splits:
    """Cut all volumes into ``SPLIT/{normal,abnormal,mask}/CASE_SLICE.png``; raises ImageError as the reader."""
    pool = decoders()
    done: Splits = {}
    with bar("Cutting volumes", sum(map(len, splits.values()))) as advance:
        for split, volumes in splits.items():
            done[split] = []
            for name in ("normal", "abnormal", MASK):
                (out / split / name).mkdir(parents=True, exist_ok=True)
            submitted = ahead_of(volumes, lambda volume: pool.submit(cut, volume.path, _mask(volume)), ahead=4)
            for volume, found in submitted:
                if isinstance(found, ImageError):
                    raise found
                done[split] += [_save(volume, image, split, out) for image in found]
                advance()
    return done


def _mask(record: Record) -> Path:
    """Return the path of a volume's segmentation."""
    if record.mask is None:
        raise ValueError("a volume without its segmentation")
    return record.mask


def _save(volume: Record, image: Cut, split: str, out: Path) -> Record:
    """Write one slice and its mask, and return its record."""
    index, pixels, tumour = image
    label = int(tumour.any())
    file = f"{volume.patient}_{index:03}.png"
    name = f"{split}/{('normal', 'abnormal')[label]}/{file}"
    _write(out / name, pixels)
    mask = out / split / MASK / file if label else None
    if mask is not None:
        _write(mask, np.where(tumour, np.uint8(255), np.uint8(0)))
    path = out / name
    return replace(volume, path=path, name=name, split=split, label=label, kind=None, mask=mask, position=float(index))


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    with replacing(path) as file:
        Picture.fromarray(pixels).save(file, "PNG")
