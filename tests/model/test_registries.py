"""Seams of the model: a new term, prior, decoder or region is one entry of a registry, and works from there on."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from aeflow.backends.score_graph import ScoreGraph
from aeflow.backends.torch import TorchBackend
from aeflow.calibration.calibration import fit_calibration
from aeflow.calibration.map_scale import MapScale
from aeflow.config import Settings
from aeflow.data.records import Record
from aeflow.errors import SettingsError
from aeflow.model.aeflow import AEFlow
from aeflow.model.decoders import DECODERS
from aeflow.model.decoders.transposed import TransposedDecoder
from aeflow.model.encoder import Encoder
from aeflow.model.maps import anomaly_map
from aeflow.model.priors import PRIORS
from aeflow.model.priors.standard_normal import StandardNormal
from aeflow.model.regions import REGIONS
from aeflow.model.regions.base import Region
from aeflow.model.terms import TERMS, Term
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.scored_batch import ScoredBatch
from aeflow.results.explanation import contributions
from aeflow.results.score_table import ScoreTable
from aeflow.scoring.scorer import Score, value_of
from helpers.data import SIZE, TINY, small_settings


def network(settings: Settings) -> AEFlow:
    torch.manual_seed(0)
    net = AEFlow(settings, Encoder(TINY, settings.encoder_stages)).eval()
    net.initialise(net.seen(images(8)))
    return net


def images(n: int) -> Tensor:
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_a_new_term_is_measured_calibrated_exported_written_and_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Brightness(TermModule):
        @classmethod
        def of(cls, settings: Settings, layout: Layout) -> Brightness:
            return cls()

        def forward(self, batch: ScoredBatch) -> Tensor:
            return torch.stack([batch.x.mean(dim=(1, 2, 3)), batch.x.std(dim=(1, 2, 3))], dim=1)

        def map(self, batch: ScoredBatch) -> Tensor:
            return batch.x.mean(dim=1)

    module = ModuleType("aeflow.model.terms.brightness")
    module.Module = Brightness  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(
        TERMS, "brightness", Term("brightness", "how bright", lambda settings: 0.5, lambda settings: True)
    )
    settings = small_settings(preset="aeflow-1", encoder=TINY, terms=("flow", "reconstruction", "brightness"))
    net = network(settings)
    x = images(12)
    raw = TorchBackend(net).run(x.numpy())
    assert raw.measures["brightness"].shape == (12, 2)
    maps = {name: MapScale(0.0, 1.0, 0.5) for name in ("residual", "anomaly")}
    calibration = fit_calibration(settings, raw.measures, maps)
    terms = calibration.terms(raw.measures)
    assert list(terms) == ["flow", "reconstruction", "brightness"]
    assert (terms["brightness"] >= 0).all()  # two-sided
    np.testing.assert_allclose(
        calibration.value(terms), 0.9 * terms["flow"] + 0.1 * terms["reconstruction"] + 0.5 * terms["brightness"]
    )
    graph = ScoreGraph(net, calibration).eval()
    with torch.no_grad():
        found = dict(zip(graph.outputs, graph(x), strict=True))
    np.testing.assert_allclose(found["score"], value_of(calibration, raw), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found["brightness"], terms["brightness"], rtol=1e-3, atol=1e-3)
    result = Score(1.0, 0.5, "normal", 1.1, {name: float(term[3]) for name, term in terms.items()}, {}, {}, ())
    with ScoreTable(tmp_path / "scores.csv") as lines, ScoreTable(tmp_path / "scores.parquet") as parquet:
        for table in (lines, parquet):
            table.add(1, Record(tmp_path / "a.png", "a.png", "test", 0, "p", None, None), result)
    [row] = csv.DictReader((tmp_path / "scores.csv").open())
    assert float(row["brightness"]) == result.terms["brightness"]
    assert pq.read_table(tmp_path / "scores.parquet")["brightness"].to_pylist() == [result.terms["brightness"]]
    parts = contributions(calibration, result)
    expected = 0.5 * (terms["brightness"][3] - terms["brightness"].mean())
    assert parts["brightness"] == pytest.approx(expected)
    value = float(calibration.value(terms)[3])
    assert sum(parts.values()) == pytest.approx(value - np.mean(calibration.scores))


def test_a_new_prior_decoder_and_region_are_chosen_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(StandardNormal):
        def log_prob(self, u: Tensor) -> Tensor:
            return super().log_prob(u / 2)

    class Grey(TransposedDecoder):
        def forward(self, code: list[Tensor]) -> Tensor:
            return super().forward(code).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)

    class LeftHalf(Region):
        beside = True
        boxed = False

        def forward(self, x: Tensor, encoder: nn.Module) -> Tensor:
            kept = torch.zeros_like(x[:, :1])
            kept[..., : x.shape[-1] // 2] = 1
            return kept

    monkeypatch.setitem(PRIORS, "wide", Wide)
    monkeypatch.setitem(DECODERS, "grey", Grey)
    monkeypatch.setitem(REGIONS, "left half", lambda encoder: LeftHalf())
    chosen = {"preset": "aeflow-1", "encoder": TINY, "described_stages": (1, 2, 3), "top_share": 1.0}
    usual = network(small_settings(**chosen))
    other = network(small_settings(**chosen, prior="wide", decoder_type="grey", region="left half"))
    x = images(3)
    with torch.no_grad():
        before, after = usual(x), other(x)
        latent = usual.encode(usual.seen(x))
    assert (after.x_hat == after.x_hat[:, :1]).all()
    assert not (before.x_hat == before.x_hat[:, :1]).all()
    [wide] = latent.negative_log_likelihood(Wide(), 0.5)
    half = wide[..., : wide.shape[-1] // 2].mean(dim=(1, 2))
    torch.testing.assert_close(after.terms["flow"][:, 0], half)
    assert not torch.allclose(after.terms["flow"], before.terms["flow"])
    anomaly = anomaly_map(other, after)
    assert torch.allclose(anomaly[..., SIZE // 2 + 4 :], torch.tensor(-3.0))  # nothing counts there
    assert (anomaly[..., : SIZE // 2 - 4] != 0).all()


@pytest.mark.parametrize(
    ("setting", "known"), [("prior", "normal"), ("decoder_type", "upsampling"), ("region", "none"), ("terms", "flow")]
)
def test_an_unknown_entry_is_named_with_those_there_are(setting: str, known: str) -> None:
    with pytest.raises(SettingsError, match=rf"{setting}: 'odd' is unknown; choose one of {known}"):
        network(small_settings(encoder=TINY, **{setting: ("odd",) if setting == "terms" else "odd"}))
