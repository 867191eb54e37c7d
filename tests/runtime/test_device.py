"""What depends on the device: smaller batches where memory ends, features held or sent, and the same results anyway."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aeflow.backends.torch import TorchBackend
from aeflow.data.records import read_records
from aeflow.errors import SettingsError, count
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.features.device_batches import Feed
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import EMBEDDED, pretrained
from aeflow.runtime.device import Plan, halving, has_room, images_on, in_parts
from aeflow.scoring.scorer import measure
from aeflow.training.loop import Material, _Step, fit_network
from helpers.data import SIZE, small_settings

CPU = torch.device("cpu")


def limited(function, most: int, seen: list[int]):
    """``function`` on a device whose memory holds ``most`` images; the first argument is the batch."""

    def call(x, *rest, **named):
        n = len(x[0]) if isinstance(x, list) else len(x)
        seen.append(n)
        if n > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(x, *rest, **named)

    return call


@pytest.fixture(scope="module")
def features(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Features:
    cache = FeatureCache(pretrained(EMBEDDED, (3,)), SIZE, tmp_path_factory.mktemp("cache"))
    return cache.features(read_records(data, "train")[:20])[0]


def model(**changes: object) -> AEFlow:
    torch.manual_seed(0)
    settings = small_settings(preset="aeflow-1", **changes)
    return AEFlow(settings, pretrained(settings.encoder, settings.encoder_stages))


@pytest.mark.parametrize(("size", "most", "fits"), [(16, 16, 16), (16, 5, 4), (7, 2, 2), (3, 1, 1)])
def test_halves_until_it_fits_and_says_so(size: int, most: int, fits: int, capsys: pytest.CaptureFixture[str]) -> None:
    def attempt(size: int) -> int:
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 10 * size

    assert halving(attempt, size) == (10 * fits, fits)
    said = capsys.readouterr()
    assert said.out == ""
    assert (f"going on with {count(fits, 'image')} at a time" in said.err) == (fits != size)


def test_not_even_one_image_fits() -> None:
    def attempt(size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SettingsError, match="does not hold a single image; free some of it, take a smaller image_size"):
        halving(attempt, 8)


def test_other_errors_are_not_about_memory() -> None:
    def attempt(size: int) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        halving(attempt, 8)


def test_parts_cover_every_column_once() -> None:
    x, names, seen = torch.arange(11), list("abcdefghijk"), []
    together = limited(lambda x, names: list(zip(x.tolist(), names, strict=True)), 3, seen)
    parts, size = in_parts(together, 8, x, names)
    assert [pair for part in parts for pair in part] == list(zip(range(11), names, strict=True))
    assert (size, seen) == (2, [8, 4, 2, 2, 2, 2, 2, 1])


def test_images_of_bytes_become_the_same_floats_on_the_device() -> None:
    x = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(images_on(x, CPU), x.float() / 255, rtol=0, atol=0)
    y = torch.rand(2, 3, 4, 4)
    assert torch.equal(images_on(y, CPU), y)


def test_features_are_held_where_half_of_the_free_memory_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 4000))
    cuda = torch.device("cuda")
    assert [has_room(needed, cuda) for needed in (0, 500, 501)] == [True, True, False]
    assert not has_room(0, CPU)


def test_a_cpu_scores_in_full_precision_and_compiles_nothing() -> None:
    plan = Plan.of(CPU)
    assert (plan.compiler, plan.hold) == (None, None)


@pytest.mark.parametrize("hold", [True, False])
def test_a_feed_gives_what_the_features_give(features: Features, hold: bool) -> None:
    feed = Feed(features, CPU, hold)
    assert (feed.held is not None) == hold
    order = [7, 3, 19, 3, 0]
    given = list(feed.batches(2, order))
    assert [len(x) for _, x in given] == [2, 2, 1]
    z, x = features.batch(order)
    assert torch.equal(torch.cat([x for _, x in given]), x)
    assert torch.equal(torch.cat([z[0] for z, _ in given]), z[0])


def test_views_lie_one_after_the_other(features: Features) -> None:
    both = features.and_also([features])
    assert len(both) == 40
    assert torch.equal(both.batch([23])[1], features.batch([3])[1])
    material = Material([features, features], features, features)
    rows = material.shuffled(0, 1)
    assert sorted(row % 20 for row in rows) == list(range(20))
    assert 0 < sum(row >= 20 for row in rows) < 20
    assert rows != material.shuffled(0, 2)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(features: Features, bfloat16: bool) -> None:
    """Halved after the memory ended, or small from the start: the same bits; and the whole batch's gradient."""

    def stepped(most: int, size: int | None = None) -> tuple[AEFlow, int]:
        net = model(batch_size=20).train()
        z, x = features.batch(range(20))
        net.initialise(net.encoded(z, x))
        step = _Step(net, net.settings, torch.optim.SGD(net.parameters(), 0.1), Plan(train_bfloat16=bfloat16))
        step.losses = limited(step.losses, most, [])
        step.size = size or step.size
        for _ in range(3):
            losses = step(z, x, len(x), "here")
        assert losses.shape == (3, 20)
        return net, step.size

    (halved, fits), (small, _), (whole, _) = stepped(7), stepped(20, 5), stepped(20)
    assert fits == 5
    for name, value in whole.state_dict().items():
        assert torch.equal(halved.state_dict()[name], small.state_dict()[name])
        torch.testing.assert_close(halved.state_dict()[name], value, rtol=1e-2, atol=2e-3 if bfloat16 else 1e-5)


def test_training_goes_on_where_memory_ends(
    features: Features, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start of the norms to the last epoch, held or sent: the losses are those of a roomy device."""

    def trained(hold: bool, name: str) -> list[float]:
        net = model(batch_size=8, epochs=2)
        (tmp_path / name).mkdir()
        material = Material([features], features, features)
        progress = fit_network(net, net.settings, tmp_path / name, material, False, Plan(hold=hold))
        return [row["held_out_loss"] for row in progress.history]

    roomy = trained(False, "roomy")
    assert trained(True, "held") == roomy
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(AEFlow, "losses", limited_method(AEFlow.losses, 3))
    assert trained(True, "tight") == pytest.approx(roomy, rel=1e-4)
    assert "going on with 2 images at a time" in capsys.readouterr().err


def limited_method(method, most: int):
    """A method of a device whose memory holds ``most`` images; its last argument is the batch."""

    def call(self, *args):
        if len(args[-1]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return method(self, *args)

    return call


def test_scoring_and_features_go_on_where_memory_ends(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same values as in batches that fit from the start, in the same order, with every file's own facts."""
    records = read_records(data, "test")[:10]
    net = model().eval()
    apart = list(measure(TorchBackend(net), records, maps=True, batch_size=2))
    cached = FeatureCache(net.encoder, SIZE, tmp_path / "whole").features(records)[0]
    assert capsys.readouterr().err == ""
    forward, encode, seen = net.forward, net.encoder.forward, []
    monkeypatch.setattr(net, "forward", limited(forward, 3, seen))
    halved = list(measure(TorchBackend(net), records, maps=True, batch_size=8))
    assert seen == [8, 4, 2, 2, 2, 2, 2]
    for (record, one), (same, other) in zip(halved, apart, strict=True):
        assert (record, one.acquisition) == (same, other.acquisition)
        np.testing.assert_array_equal(one.measures["flow"], other.measures["flow"])
        np.testing.assert_array_equal(one.maps["anomaly"], other.maps["anomaly"])
        assert one.measures["reconstruction"] == other.measures["reconstruction"]
    assert "going on with 2 images at a time" in capsys.readouterr().err
    cache = FeatureCache(net.encoder, SIZE, tmp_path / "halved")
    monkeypatch.setattr(net.encoder, "forward", limited(encode, 4, []))
    again = cache.features(records)[0]
    torch.testing.assert_close(again.batch(range(10))[0][0], cached.batch(range(10))[0][0], rtol=1e-3, atol=1e-4)
    assert "going on with 4 images at a time" in capsys.readouterr().err
