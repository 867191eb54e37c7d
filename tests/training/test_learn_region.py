"""Learning of a region: from painted images to a mask of others; what is refused; the seed decides all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from aeflow.data.records import Record, find_images
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.model.encoder_weights import EMBEDDED, pretrained
from aeflow.training.learn_region import learn_region, moved, random_fields, with_opacities
from aeflow.training.painted import read_painted, with_regions

SIZE = 64


def scene(seed: int) -> tuple[Tensor, Tensor]:
    """Return a picture (3, SIZE, SIZE) of a dark ellipse in bright texture, and the ellipse's mask (1, SIZE, SIZE)."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((SIZE, SIZE)) - rng.uniform(26, 38, 2)[:, None, None]
    mask = (y / rng.uniform(12, 18)) ** 2 + (x / rng.uniform(9, 14)) ** 2 < 1
    grey = 0.7 - 0.4 * mask + 0.1 * gaussian_filter(rng.standard_normal((SIZE, SIZE)), 1.5)
    return torch.from_numpy(grey.clip(0, 1)).float().expand(3, -1, -1), torch.from_numpy(mask).float()[None]


def scenes(first: int, n: int) -> tuple[Tensor, Tensor]:
    images, masks = zip(*(scene(first + i) for i in range(n)), strict=True)
    return torch.stack(images), torch.stack(masks)


def painted(folder: Path, n: int, shape: tuple[int, int] = (SIZE, SIZE), empty: bool = False) -> list[Record]:
    """Write n images and their masks of a shape; return the images' records."""
    for kind in ("image", "mask"):
        (folder / kind).mkdir(parents=True)
    for i in range(n):
        image, mask = scene(i)
        Image.fromarray((image[0].numpy() * 255).astype(np.uint8)).save(folder / "image" / f"{i:02}.png")
        drawn = np.zeros((SIZE, SIZE), bool) if empty else mask[0].numpy() > 0
        Image.fromarray(drawn.astype(np.uint8) * 255).resize(shape[::-1], 0).save(folder / "mask" / f"{i:02}.png")
    return with_regions(find_images([folder / "image"]), folder / "mask")


def test_twenty_painted_images_teach_the_region_and_the_seed_decides_all() -> None:
    encoder = pretrained(EMBEDDED, (1, 2, 3))
    images, masks = scenes(0, 20)
    before = torch.get_rng_state()
    region, again = (learn_region(images, masks, encoder, seed=1, copies=80, steps=80) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    x, drawn = scenes(100, 10)
    found = region(x, encoder)
    assert torch.equal(found, again(x, encoder))
    both, either = ((found > 0.5) & (drawn > 0.5)).sum(), ((found > 0.5) | (drawn > 0.5)).sum()
    assert both / either > 0.8


def test_opacities_are_inside_the_mask_and_moves_keep_image_and_mask_together() -> None:
    torch.manual_seed(0)
    x, masks = scenes(0, 6)
    hazy = with_opacities(x, masks)
    assert torch.equal(hazy * (1 - masks), x * (1 - masks))
    assert (hazy - x).abs().amax() > 0.1
    turned, with_it = moved(masks.expand(-1, 3, -1, -1), masks)
    assert (turned[:, :1] - with_it).abs().mean() < 0.02
    fields = random_fields(3, SIZE, SIZE)
    torch.testing.assert_close(fields.std(dim=(1, 2, 3)), torch.ones(3))


def test_masks_are_found_by_stem_and_kept_with_their_images(tmp_path: Path) -> None:
    painted(tmp_path, 22)
    (tmp_path / "mask" / "00.png").unlink()
    records = with_regions(find_images([tmp_path / "image"]), tmp_path / "mask")
    found, images, masks = read_painted(tmp_path / "mask", records, SIZE)
    assert [record.path.stem for record in found] == [f"{i:02}" for i in range(1, 22)]
    torch.testing.assert_close(images[0], scene(1)[0], rtol=0, atol=1 / 255)
    assert torch.equal(masks[0], scene(1)[1])


def test_too_few_masks_are_counted_and_placed(tmp_path: Path) -> None:
    records = painted(tmp_path, 7)
    with pytest.raises(
        DataError, match=r"mask: 7 masks with the stem of a readable image where at least 20 are needed"
    ):
        read_painted(tmp_path / "mask", records, SIZE)


def test_a_mask_of_another_shape_or_without_paint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="a mask of 32 x 64 pixels where its image has 64 x 64; draw it on the image"):
        read_painted(tmp_path / "a" / "mask", painted(tmp_path / "a", 20, (32, 64)), SIZE)
    with pytest.raises(ImageError, match="a mask in which nothing is marked; mark the place"):
        read_painted(tmp_path / "b" / "mask", painted(tmp_path / "b", 20, empty=True), SIZE)
    read_painted(tmp_path / "c" / "mask", painted(tmp_path / "c", 20, (32, 32)), SIZE)  # smaller, of the same shape
