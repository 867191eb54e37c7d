"""The decoder from features: the range of pixels, grey from grey, no comb, and the layers it reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aeflow.errors import SettingsError
from aeflow.model.decoders.upsampling import UpsamplingDecoder

SIDE = 64


def features(n: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, c, SIDE // stride, SIDE // stride, generator=generator) for c, stride in ((6, 8), (10, 16))]


def decoder(size: tuple[int, int] | None = (SIDE, SIDE)) -> UpsamplingDecoder:
    torch.manual_seed(0)
    return UpsamplingDecoder((6, 10), (8, 16), size).eval()


def comb(x: Tensor) -> float:
    """Share of an image's (H, W) variance whose wave repeats every 2, 4 or 8 pixels in a row or column.

    The seams of blocks of 2, 4 and 8 pixels lie there and nowhere else; the rim is left out, for padding shows there.
    """
    inner = x[8:-8, 8:-8]
    power = torch.fft.fft2(inner - inner.mean()).abs().square()
    found = 0.0
    for axis in (0, 1):
        lines = power.sum(dim=axis)
        n = len(lines)
        found += float(sum(lines[k * n // 8] for k in range(1, 8)))
    return found / (2 * float(power.sum()))


def test_images_have_the_range_of_pixels_and_the_size_of_the_input() -> None:
    for scale in (1, 1000):
        x_hat = decoder()([scale * z for z in features(2)])
        assert x_hat.shape == (2, 3, SIDE, SIDE)
        assert x_hat.min() >= 0
        assert x_hat.max() <= 1


def test_even_features_decode_without_a_comb() -> None:
    """The same features everywhere give one brightness everywhere; a transposed convolution gives blocks.

    Beyond the reach of the padding at the rim, that is, 50 pixels.
    """
    even = [
        z.mean(dim=(2, 3), keepdim=True).expand(-1, -1, 192 // stride, 192 // stride)
        for z, stride in zip(features(1), (8, 16), strict=True)
    ]
    with torch.no_grad():
        inner = decoder(None)([10 * z for z in even])[0, 0, 64:-64, 64:-64]
        blocks = nn.ConvTranspose2d(10, 1, 2, stride=2)(10 * even[1])[0, 0]
    assert float(inner.std()) < 1e-5
    assert float(blocks.std()) > 1e-2


def test_no_wave_at_the_frequencies_of_blocks() -> None:
    """Of decoded noise, those frequencies hold no more than their share."""
    with torch.no_grad():
        x_hat = decoder(None)([10 * z for z in features(8)]).mean(dim=1)
    shares = [comb(image) for image in x_hat]
    assert max(shares) < 0.02
    seams = x_hat[0].clone()
    seams[::2] += 3 * float(seams.std())
    assert comb(seams) > 0.1  # the measure sees a comb


def test_mean_normal_image_is_what_features_of_no_news_decode_to() -> None:
    net = decoder()
    x = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    net.initialise(features(5), x)
    with torch.no_grad():
        for values in (net.paint.weight, net.paint.bias):
            values.zero_()
    assert torch.allclose(net(features(1, seed=2)), x.mean(dim=0, keepdim=True), atol=1e-5)


def test_scale_and_offset_of_a_feature_do_not_matter() -> None:
    """Features are standardised by those of normals, so an encoder's units do not reach the layers."""
    x = torch.rand(5, 3, SIDE, SIDE)
    one, other = decoder(), decoder()
    one.initialise(features(5), x)
    other.initialise([3 * z + 7 for z in features(5)], x)
    new = features(2, seed=3)
    assert torch.allclose(one(new), other([3 * z + 7 for z in new]), atol=1e-4)


def test_images_that_are_not_aligned_need_no_size() -> None:
    net = decoder(None)
    net.initialise(features(5), torch.rand(5, 3, SIDE, SIDE))
    assert net([torch.randn(1, 6, 12, 10), torch.randn(1, 10, 6, 5)]).shape == (1, 3, 96, 80)


def test_a_stride_that_it_cannot_read_is_refused() -> None:
    with pytest.raises(SettingsError, match="not 2; choose"):
        UpsamplingDecoder((6, 10), (2, 16))
