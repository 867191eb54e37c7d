"""Masks that belong to an image: on its grid, and marked as a mask is.

A mask marks what is not zero: 0 and 1, 0 and 255, and maps of labels mark alike. A NIfTI mask of a NIfTI image lies on
the image's grid in space, voxel by voxel, however either is stored; any other mask has its image's number of slices and
its shape, at any resolution. A mask is refused that is inverted, that fades out as probabilities do, or that marks
nothing where something is to be marked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow.errors import count
from aeflow.imageio import nifti
from aeflow.imageio.content import read_content
from aeflow.imageio.errors import ImageError
from aeflow.imageio.formats import NIFTI, recognise
from aeflow.imageio.image import Slice
from aeflow.imageio.limits import LIMITS, Limits
from aeflow.imageio.reader import not_zero, read_mask

RATIO = 0.02  # relative difference between the shapes of image and mask that rounding may cause
BORDER = 0.9  # share of the border that an inverted mask marks at least; it also marks more than half of all
MOST_LABELS = 32  # different values of a map of labels in 8 bits; with more it may be a smoothed edge or probabilities
SAMPLED = 100_000  # marked values that are looked at
REMEDY_GRID = "draw it on the image itself, or resample it to the image's grid by nearest neighbours"


def read_mask_of(
    image: Path, mask: Path, limits: Limits = LIMITS, at: Slice | None = None, *, empty: bool = False
) -> NDArray[np.bool_]:
    """Read the mask (H, W) of an image, or of one slice of it, true where it is not zero; ImageError unless it fits.

    ``empty``: it may mark nothing. Of a volume's mask only the whole has to mark something.
    """
    content = read_content(mask, limits)
    form = recognise(content)
    if form is NIFTI:
        _check_grid(image, mask, content, limits, at)
        volume = nifti.volume(content, mask, limits)
        marked, values = volume.marked(), volume.marked_values()
        found = read_mask(mask, limits, at)
    else:
        found = marked = read_mask(mask, limits, at)  # refuses the formats in which there are no masks
        samples = form.samples(content, mask, limits, None).samples
        values = samples[not_zero(samples)]
        _check_grid(image, mask, content, limits, at, marked.shape)
    _check_marks(mask, marked, values, empty)
    return found


def _check_grid(
    image: Path, mask: Path, content: bytes, limits: Limits, at: Slice | None, shape: tuple[int, ...] | None = None
) -> None:
    """Raise ImageError unless a mask lies on its image's grid; ``shape``: of a mask that is a single picture."""
    of_image = read_content(image, limits)
    form, axis = recognise(of_image), (at.axis if at is not None else None) or "axial"
    if form is NIFTI and shape is None:
        apart = nifti.grid(content, mask, limits, axis).distance(nifti.grid(of_image, image, limits, axis))
        if apart is not None:
            raise ImageError(mask, f"a mask on another grid than its image's: {apart}", REMEDY_GRID)
        return
    slices = 1 if shape is not None else nifti.header(content, mask, limits, axis).frames
    frames = form.header(of_image, image, limits, axis).frames if form.header is not None else 1
    if slices != frames:
        found = f"a mask of {count(slices, 'slice')} for an image of {count(frames, 'slice')}"
        raise ImageError(mask, found, "save the mask as one NIfTI volume of as many slices")
    if shape is None:
        shape = read_mask(mask, limits, at).shape
    height, width = shape
    tall, wide = form.samples(of_image, image, limits, at).samples.shape[:2]
    if abs(height * wide / (width * tall) - 1) > RATIO:
        found = f"a mask of {height} x {width} pixels where its image has {tall} x {wide}"
        raise ImageError(mask, found, REMEDY_GRID)


def _check_marks(mask: Path, marked: NDArray[np.bool_], values: NDArray[Any], empty: bool) -> None:
    """Raise ImageError unless a mask, as a whole, marks something (or may be empty), plainly, and not all around."""
    if not marked.any():
        if empty:
            return
        raise ImageError(mask, "a mask in which nothing is marked", "mark the place, or leave the mask out")
    values = values[:: max(1, len(values) // SAMPLED)]
    wide = values.dtype.kind in "iu" and values.dtype.itemsize > 1  # labels of many organs
    if not wide and len(np.unique(values)) > MOST_LABELS and (values < values.max() / 2).mean() > 0.5:
        found = "a mask that fades out as probabilities do: most of what it marks is fainter than half"
        raise ImageError(mask, found, "apply a threshold, and save 0 and 1")
    inner = marked[tuple(slice(1, -1) if side > 2 else slice(None) for side in marked.shape)]
    border = (marked.sum() - inner.sum()) / max(1, marked.size - inner.size)
    if marked.mean() > 0.5 and border >= BORDER:
        found = f"a mask that marks {marked.mean():.0%} of its image, the border included: inverted, it seems"
        raise ImageError(mask, found, "write 0 where nothing is")
