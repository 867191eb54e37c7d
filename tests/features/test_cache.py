"""The feature cache: the encoder's own features, whatever happened to the disk."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aeflow.backends.graph_file import TRACED_IMAGES
from aeflow.data.augment import of_reach, recapture
from aeflow.data.preprocess import preprocess
from aeflow.data.records import read_records
from aeflow.errors import NumericalError
from aeflow.features import openvino_encoder as encoder_graph
from aeflow.features.arithmetic import GRAPH_FROM_IMAGES, Arithmetic
from aeflow.features.cache import FeatureCache
from aeflow.features.openvino_encoder import EncoderGraph, difference
from aeflow.features.row_encoder import BATCH, RowEncoder
from aeflow.imageio.reader import read_image
from aeflow.model.encoder import Encoder
from aeflow.model.encoder_weights import EMBEDDED, pretrained
from aeflow.model.front import Front, Pooled
from helpers.data import SIZE, TINY, lesion, small_settings, texture


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


def test_views_of_another_reach_are_features_of_their_own(data: Path, encoder: Encoder, tmp_path: Path) -> None:
    records = read_records(data, "train")[:3]
    near, far = (FeatureCache(encoder, SIZE, tmp_path, of_reach(reach)) for reach in (1.0, 2.0))
    image, view = (
        [cache.features(records, view=number)[0].batch([0, 1, 2])[1] for cache in (near, far)] for number in (0, 1)
    )
    assert torch.equal(*image)
    assert not torch.equal(*view)


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
    assert seen == [BATCH]  # five of them, and blank ones


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


@pytest.mark.parametrize("victim", ["features.npy", "pixels.npy", "images.json", "about.json"])
@pytest.mark.parametrize("how", ["truncated", "missing", "a bit flipped"])
def test_damaged_shard_is_computed_again(
    data: Path, encoder: Encoder, tmp_path: Path, victim: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = read_records(data, "train")[:6]
    cache = FeatureCache(encoder, SIZE, tmp_path)
    before = cache.features(records)[0].batch(range(6))[0][0]
    [shard] = cache.folder.glob("shard-*")
    if how == "missing":
        (shard / victim).unlink()
    else:
        content = bytearray((shard / victim).read_bytes())
        content[len(content) // 2] ^= 4
        (shard / victim).write_bytes(content[: len(content) // 2] if how == "truncated" else content)
    after, refused = FeatureCache(encoder, SIZE, tmp_path).features(records)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("note: a part of the cache is damaged, and made anew: shard-")
    assert refused == []
    assert torch.equal(after.batch(range(6))[0][0], before)
    again, _ = FeatureCache(encoder, SIZE, tmp_path).features(records)
    assert torch.equal(again.batch(range(6))[0][0], before)
    assert capsys.readouterr().err == ""


def test_features_do_not_depend_on_what_was_cached(data: Path, encoder: Encoder, tmp_path: Path) -> None:
    """To the last bit: whichever images were there already, and whatever is computed beside one."""
    records = read_records(data, "train")[:21]
    want, _ = FeatureCache(encoder, SIZE, tmp_path / "empty").features(records)
    for start, step in ((0, 1), (3, 7), (1, 2)):
        cache = FeatureCache(encoder, SIZE, tmp_path / f"{start} {step}")
        cache.features(records[start::step][:5])
        got, _ = cache.features(records)
        np.testing.assert_array_equal(got.vectors(), want.vectors())


def test_another_arithmetic_has_a_cache_of_its_own(encoder: Encoder, tmp_path: Path) -> None:
    one = Arithmetic.of(torch.device("cpu"))
    ways = [one, replace(one, threads=one.threads + 1), replace(one, processor="another"), fast()]
    assert len({FeatureCache(encoder, SIZE, tmp_path, arithmetic=way).folder for way in ways}) == len(ways)


def test_a_cache_that_is_deleted_meanwhile_is_filled_again(
    data: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_records(data, "train")[:3]
    want, _ = FeatureCache(encoder, SIZE, tmp_path / "left alone").features(records)
    root, save, calls = tmp_path / "cache", np.save, []

    def deleting(*arguments: object) -> None:
        calls.append(1)
        if len(calls) in (1, 4):
            shutil.rmtree(root)
        save(*arguments)

    monkeypatch.setattr(np, "save", deleting)
    got, _ = FeatureCache(encoder, SIZE, root).features(records)
    np.testing.assert_array_equal(got.vectors(), want.vectors())
    shutil.rmtree(root)
    np.testing.assert_array_equal(got.vectors(), want.vectors())  # what was opened stays


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
    records = read_records(data, "train")[:BATCH]
    pixels = torch.from_numpy(np.stack([preprocess(read_image(record.path), SIZE) for record in records]))
    features, _ = FeatureCache(encoder, SIZE, tmp_path).features(records)
    assert features.stored([0])[0].dtype == torch.float16
    for cached, direct in zip(features.batch(range(BATCH))[0], encoder(pixels), strict=True):
        large = direct.abs() > 1e-3
        assert ((cached - direct).abs() / direct.abs())[large].max() <= 1e-3
        assert (cached - direct).abs()[~large].max() <= 1e-6
    pooled = pooled_of(encoder)
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


def fast() -> Arithmetic:
    """The arithmetic of a training with many images: OpenVINO's."""
    found = Arithmetic.of(torch.device("cpu"), GRAPH_FROM_IMAGES)
    assert found.by_graph
    return found


def pooled_of(encoder: Encoder) -> Pooled:
    """Both stages of an encoder, pooled over the whole image."""
    return Pooled(Front(encoder, None, small_settings(preset="aeflow-1", classifier="mixture")), (3, 4))


def counted(encoder: Encoder | Pooled, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images torch encodes each time; what traces the encoder asks as well."""
    seen: list[int] = []
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda x: seen.append(len(x)) or forward(x))
    return seen


@pytest.mark.parametrize(("pooled", "view"), [(False, 0), (True, 1)])
def test_openvino_gives_the_same_features(
    data: Path,
    encoder: Encoder,
    own_graphs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pooled: bool,
    view: int,
) -> None:
    net = pooled_of(encoder) if pooled else encoder
    records = read_records(data, "train")[:20]
    want, _ = FeatureCache(net, SIZE, tmp_path).features(records, view=view)
    seen = counted(net, monkeypatch)
    cache = FeatureCache(net, SIZE, tmp_path, arithmetic=fast())
    got, _ = cache.features(records, view=view)
    assert seen[:2] == [1, BATCH]  # shapes, the images that it is proven on
    assert set(seen[2:]) == {TRACED_IMAGES}
    until_traced = len(seen)
    assert got.contents == want.contents
    assert (want.by[0].split()[0], got.by[0].split()[0]) == ("torch", "openvino")
    if pooled:
        assert 0 < difference(got.vectors(), want.vectors(), [got.vectors().shape[1]]) < 1e-4
    else:
        np.testing.assert_allclose(got.vectors(), want.vectors(), rtol=1e-3, atol=1e-4)  # half precision
    cache.features(records, view=view + 1)
    assert len(seen) == until_traced  # the graph stays
    other = cache.changed_by(recapture)
    other.features(records, view=1)
    assert len(seen) == until_traced  # it serves other changes, too
    assert other.folder != cache.folder
    FeatureCache(net, SIZE, tmp_path, arithmetic=fast()).features(records, view=view)
    assert len(seen) == until_traced + 1  # where nothing is missing no graph is made


@pytest.fixture
def own_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which no graph is kept yet."""
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


def test_a_graph_is_made_once_and_gives_the_same_bits_from_the_cache(
    encoder: Encoder, own_graphs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    made, files_of = [], encoder_graph.graph_files
    monkeypatch.setattr(encoder_graph, "graph_files", lambda *given: made.append(given) or files_of(*given))
    first, second = (RowEncoder(encoder, SIZE, fast())(x) for _ in range(2))
    assert len(made) == 1
    np.testing.assert_array_equal(first, second)
    [weights] = (own_graphs / "graphs").glob("*/graph.bin")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    np.testing.assert_array_equal(RowEncoder(encoder, SIZE, fast())(x), first)
    assert len(made) == 2
    assert "a part of the cache is damaged, and made anew" in capsys.readouterr().err


def test_a_graph_gives_features_to_single_precision(encoder: Encoder) -> None:
    x = torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    want = torch.cat([z.flatten(1) for z in encoder(x)], dim=1).numpy()
    widths = [z[0].numel() for z in encoder(x)]
    graph = EncoderGraph.proven(encoder, widths, x.numpy(), want)
    assert graph is not None
    assert 0 < difference(graph(x.numpy()), want, widths) < 1e-4
    np.testing.assert_array_equal(graph(x[3:4].numpy())[0], graph(x.numpy())[3])


def test_a_row_encoder_gives_the_encoders_features(encoder: Encoder) -> None:
    x = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    for arithmetic in (None, fast()):
        for got, want in zip(RowEncoder(encoder, SIZE, arithmetic).stages(x), encoder(x), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_few_images_stay_with_torch() -> None:
    assert not Arithmetic.of(torch.device("cpu"), GRAPH_FROM_IMAGES - 1).by_graph  # a graph costs more than it saves


def test_a_graph_with_other_features_is_refused_once(
    data: Path, own_graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of the same network, one weight moved a little."""
    torch.manual_seed(0)
    encoder = Encoder(TINY, (3,))
    files_of = encoder_graph.graph_files

    def bent(net: nn.Module, *rest: object, **options: object) -> dict[str, bytes]:
        weight = next(net.parameters())
        kept = weight.clone()
        weight[0, 0] += 0.05
        files = files_of(net, *rest, **options)
        weight.copy_(kept)
        return files

    monkeypatch.setattr(encoder_graph, "graph_files", bent)
    records = read_records(data, "train")
    cache = FeatureCache(encoder, SIZE, tmp_path, arithmetic=fast())
    found, _ = cache.features(records)
    assert found.by[0].startswith("torch ")
    said = capsys.readouterr().err
    assert said.startswith("note: features by torch: those by OpenVINO are off by ")
    assert f"where {encoder_graph.TOLERANCE:.2g} is allowed" in said
    pixels = torch.from_numpy(np.stack([preprocess(read_image(records[i].path), SIZE) for i in (0, 30)]))
    for cached, direct in zip(found.batch([0, 30])[0], encoder(pixels), strict=True):
        torch.testing.assert_close(cached, direct, rtol=1e-3, atol=1e-4)
    cache.features(records, view=1)
    assert capsys.readouterr().err == ""


def test_an_encoder_that_openvino_cannot_run_stays_with_torch(
    data: Path,
    encoder: Encoder,
    own_graphs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records, forward = read_records(data, "train"), encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda x: [torch.special.i0e(z) for z in forward(x)])
    found, _ = FeatureCache(encoder, SIZE, tmp_path, arithmetic=fast()).features(records)
    assert len(found) == len(records)
    assert capsys.readouterr().err == "note: features by torch: OpenVINO cannot run the encoder (OpConversionFailure)\n"


def test_an_encoder_to_which_openvino_gives_other_features_stays_with_torch(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a size that is not its own this network resamples its positions, which OpenVINO does in another way."""
    records = read_records(data, "train")
    found, _ = FeatureCache(Encoder("test_vit", (0,)), SIZE, tmp_path, arithmetic=fast()).features(records)
    assert len(found) == len(records)
    note = r"note: features by torch: those by OpenVINO are off by 0\.\d+ of their size where 0\.\d+ is allowed\n"
    assert re.fullmatch(note, capsys.readouterr().err)


@pytest.mark.parametrize("away", [float("nan"), float("inf")])
def test_no_number_is_no_proof(away: float) -> None:
    features = np.ones((2, 6), np.float32)
    other = features.copy()
    other[1, 1] = away
    assert not difference(other, features, [2, 4]) <= encoder_graph.TOLERANCE
