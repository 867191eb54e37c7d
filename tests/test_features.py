"""The feature cache: the encoder's own features, whatever happened to the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from aeflow.data.preprocess import preprocess
from aeflow.data.read import read_image
from aeflow.data.records import read_records
from aeflow.errors import NumericalError
from aeflow.features import FeatureCache
from aeflow.model.encoder import EMBEDDED, Encoder, pretrained
from aeflow.model.pooled import Pooled
from conftest import SIZE, lesion, texture


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return pretrained(EMBEDDED, (3, 4))


def test_features_are_those_of_the_encoder(data: Path, encoder: Encoder, tmp_path: Path) -> None:
    records = read_records(data, "train")[:20]
    features, refused = FeatureCache(encoder, SIZE, tmp_path).features(records)
    assert (features.records, refused) == (records, [])
    z, x = features.batch([3, 17])
    pixels = torch.from_numpy(np.stack([preprocess(read_image(records[i].path), SIZE) for i in (3, 17)]))
    torch.testing.assert_close(x, pixels, atol=0.5 / 255, rtol=0)
    for cached, direct in zip(z, encoder(pixels), strict=True):
        torch.testing.assert_close(cached, direct, rtol=1e-3, atol=1e-4)  # half precision


def test_a_choice_of_stages_gives_these_and_the_same_images(data: Path, encoder: Encoder, tmp_path: Path) -> None:
    features, _ = FeatureCache(encoder, SIZE, tmp_path).features(read_records(data, "train")[:6])
    whole, x = features.batch([1, 4])
    for positions in ((0,), (1,), (0, 1)):
        chosen, same = features.only(*positions).and_also([features.only(*positions)]).batch([1, 10])
        assert all(torch.equal(a, whole[i]) for a, i in zip(chosen, positions, strict=True))
        assert torch.equal(same, x)


def test_only_what_is_missing_is_computed(
    data: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_records(data, "train")
    cache = FeatureCache(encoder, SIZE, tmp_path)
    cache.features(records[:10])
    seen: list[int] = []
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda x: seen.append(len(x)) or forward(x))
    cache.features(records[:10])
    assert seen == []
    cache.features(records[5:15])
    assert sum(seen) == 5


def test_content_is_the_key_not_the_name(encoder: Encoder, tmp_path: Path) -> None:
    from PIL import Image

    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name / "train" / "normal").mkdir(parents=True)
        Image.fromarray(texture(seed)).save(tmp_path / name / "train" / "normal" / "same.png")
    cache = FeatureCache(encoder, SIZE, tmp_path / "cache")
    a, b = (cache.features(read_records(tmp_path / name))[0].batch([0])[0][0] for name in ("a", "b"))
    assert not torch.equal(a, b)
    Image.fromarray(texture(1)).save(tmp_path / "a" / "train" / "normal" / "same.png")
    again = cache.features(read_records(tmp_path / "a"))[0].batch([0])[0][0]
    assert torch.equal(again, b)


def test_other_size_or_stages_do_not_share(encoder: Encoder, tmp_path: Path) -> None:
    folders = {FeatureCache(e, s, tmp_path).folder for e in (encoder, pretrained(EMBEDDED, (4,))) for s in (64, 96)}
    assert len(folders) == 4


@pytest.mark.parametrize("victim", ["features.npy", "pixels.npy", "images.json"])
@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_damaged_shard_is_computed_again(data: Path, encoder: Encoder, tmp_path: Path, victim: str, how: str) -> None:
    records = read_records(data, "train")[:6]
    cache = FeatureCache(encoder, SIZE, tmp_path)
    before = cache.features(records)[0].batch(range(6))[0][0]
    [shard] = cache.folder.glob("shard-*")
    if how == "missing":
        (shard / victim).unlink()
    else:
        content = (shard / victim).read_bytes()
        (shard / victim).write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="damaged cache"):
        after, refused = cache.features(records)
    assert refused == []
    torch.testing.assert_close(after.batch(range(6))[0][0], before)


def test_refused_images_leave_no_gap(tmp_path: Path, encoder: Encoder) -> None:
    from PIL import Image

    folder = tmp_path / "train" / "normal"
    folder.mkdir(parents=True)
    for i in range(5):
        Image.fromarray(lesion(i)[0]).save(folder / f"{i}.png")
    (folder / "1.png").write_bytes(b"broken")
    features, refused = FeatureCache(encoder, SIZE, tmp_path / "cache").features(read_records(tmp_path))
    assert [record.path.name for record in features.records] == ["0.png", "2.png", "3.png", "4.png"]
    assert [record.path.name for record, _ in refused] == ["1.png"]
    assert len(features.batch(range(4))[1]) == 4
    shutil.rmtree(tmp_path / "cache")


def test_half_precision_is_within_a_thousandth(data: Path, encoder: Encoder, tmp_path: Path) -> None:
    """And takes half the bytes; vectors stay as they are."""
    records = read_records(data, "train")[:8]
    pixels = torch.from_numpy(np.stack([preprocess(read_image(record.path), SIZE) for record in records]))
    features, _ = FeatureCache(encoder, SIZE, tmp_path).features(records)
    assert features.stored([0])[0].dtype == torch.float16
    for cached, direct in zip(features.batch(range(8))[0], encoder(pixels), strict=True):
        large = direct.abs() > 1e-3
        assert ((cached - direct).abs() / direct.abs())[large].max() <= 1e-3
        assert (cached - direct).abs()[~large].max() <= 1e-6
    pooled = Pooled(encoder)
    vectors = FeatureCache(pooled, SIZE, tmp_path).features(records)[0].vectors()
    np.testing.assert_allclose(vectors, pooled(pixels)[0][:, :, 0, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [1e5, float("nan")])
def test_features_beyond_half_precision_are_refused(
    data: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    cache = FeatureCache(encoder, SIZE, tmp_path)
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda x: [z + value for z in forward(x)])
    with pytest.raises(NumericalError, match=r"features reach \S+ where the cache holds up to 65504; take other --set"):
        cache.features(read_records(data, "train")[:4])
    assert not list(cache.folder.glob("*"))
