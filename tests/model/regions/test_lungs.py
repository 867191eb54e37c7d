"""The lungs' weights that come with the package: they fit, say where they are from, and find lungs in real X-rays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from aeflow.model.encoder_weights import WEIGHTS as ENCODERS
from aeflow.model.encoder_weights import pretrained
from aeflow.model.regions import REGIONS
from aeflow.model.regions.plausibility import region_statistics
from aeflow.model.regions.shipped import WEIGHTS
from helpers.data import SAMPLE


@pytest.mark.parametrize("name", ENCODERS)
def test_lungs_are_found_in_x_rays_and_what_is_found_elsewhere_is_implausible(name: str) -> None:
    encoder = pretrained(name, (1, 2, 3))
    lungs = REGIONS["lungs"](encoder)
    files = sorted((SAMPLE / "train/normal").iterdir())[:20]
    grey = [torch.from_numpy(np.array(Image.open(file).convert("L"))).float() / 255 for file in files]
    x = torch.stack(grey)[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        found = lungs(x, encoder)
        odd = torch.cat([lungs(other, encoder) for other in (x[:3].transpose(2, 3), torch.rand(2, 3, 224, 224))])
    assert ((found > 0.15) & (found < 0.85)).float().mean() < 0.05  # sharp edges
    assert found[:, 0, 80:150, 40:70].mean() > 0.5  # the right lung
    assert found[:, 0, :20].mean() < 0.02
    plausible, implausible = region_statistics(found), region_statistics(odd)
    spread, mean = torch.std_mean(plausible, dim=0)
    assert ((plausible - mean).abs() < 5 * spread).all()
    assert ((implausible - mean).abs() > 5 * spread).any(dim=1).all()  # X-rays on their side, noise


@pytest.mark.parametrize("name", ENCODERS)
def test_the_weights_say_where_they_are_from_and_how_good_they_are(name: str) -> None:
    with safe_open(str(WEIGHTS / f"lungs-{name}.safetensors"), "pt") as file:
        facts = file.metadata()
    assert "CC BY 4.0" in facts["attribution"]
    assert float(facts["iou_normals"]) > 0.92
    assert float(facts["iou_pneumonias"]) > 0.85
