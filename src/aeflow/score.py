"""Images -> scores: the only way to a score, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from aeflow.artifact import Artifact
from aeflow.data.facts import Facts
from aeflow.data.records import Record
from aeflow.data.stream import batches
from aeflow.device import Plan, images_on, in_parts
from aeflow.errors import ImageError
from aeflow.intended import measure_traits
from aeflow.model.aeflow import AEFlow, Measures

Floats = NDArray[np.float32]

BATCH = 16
MAPS = ("residual", "flow")


@dataclass(frozen=True, slots=True)
class Measured:
    """One image's raw measures; ``maps`` and ``pictures`` are empty unless asked for."""

    flow: NDArray[np.float64]  # (stages,)
    reconstruction: float
    log_ratios: NDArray[np.float64] | None  # (kinds,) where the model has classes
    traits: NDArray[np.float64]  # (T,) see ``intended.measure_traits``
    facts: Facts  # what the file says of how the image was taken
    maps: dict[str, Floats]  # (H, W) each
    pictures: tuple[Floats, ...]  # the image and its reconstruction, (3, H, W) each


@dataclass(frozen=True, slots=True)
class Score:
    """How abnormal an image is, how sure that is, and where.

    ``value`` is higher for more abnormal; ``p_value`` is the share of held-out normals at least as abnormal; ``maps``
    are in their own units, to be shown on the model's fixed scale (``Calibration.maps``).
    """

    value: float
    p_value: float
    verdict: str  # "normal" or "abnormal"
    terms: dict[str, float]
    posterior: dict[str, float]  # probability of "normal" and of each kind of abnormality; empty without classes
    maps: dict[str, Floats]
    pictures: tuple[Floats, ...]  # the image and its reconstruction, (3, H, W) each in [0, 1], if asked for
    outside: tuple[str, ...] = ()  # why the image is outside the intended input; empty if it is not

    @property
    def map(self) -> Floats | None:
        """The flow map, (H, W), if maps were asked for."""
        return self.maps.get("flow")


def score(
    artifact: Artifact,
    records: Sequence[Record],
    *,
    maps: bool = False,
    pictures: bool = False,
    batch_size: int = BATCH,
) -> Iterator[tuple[Record, Score | ImageError]]:
    """Each record with its score, or with the error that refused it, in input order and constant memory."""
    calibration = artifact.calibration
    for record, measured in measure(artifact.net, records, maps=maps, pictures=pictures, batch_size=batch_size):
        if isinstance(measured, ImageError):
            yield record, measured
            continue
        ratios = None if measured.log_ratios is None else measured.log_ratios[None]
        terms = calibration.terms(measured.flow[None], np.array([measured.reconstruction]), ratios)
        value = float(calibration.value(terms)[0])
        if not np.isfinite(value):
            yield record, ImageError(record.path, f"its score is {value}", "look at the image; it is far from any seen")
            continue
        yield (
            record,
            Score(
                value=value,
                p_value=calibration.p_value(value),
                verdict=calibration.verdict(value),
                terms={name: float(term[0]) for name, term in terms.items()},
                posterior=calibration.posterior.probabilities(ratios)[0]
                if calibration.posterior is not None and ratios is not None
                else {},
                maps=measured.maps,
                pictures=measured.pictures,
                outside=artifact.intended.outside(measured.traits, measured.facts),
            ),
        )


def measure(
    net: AEFlow, records: Sequence[Record], *, maps: bool = False, pictures: bool = False, batch_size: int = BATCH
) -> Iterator[tuple[Record, Measured | ImageError]]:
    """Each record with its raw measures, before calibration; otherwise as ``score``."""
    size = batch_size  # smaller once the device's memory has run out
    for batch in batches(records, net.settings.image_size, batch_size):
        read = [x for _, x in batch if not isinstance(x, ImageError)]
        facts = [one.facts for one in read]
        done: Iterator[Measured] = iter(())
        if read:
            images = torch.from_numpy(np.stack([one.pixels for one in read]))
            parts, size = in_parts(partial(_measured, net, maps=maps, pictures=pictures), size, images, facts)
            done = chain.from_iterable(parts)
        for record, decoded in batch:
            yield record, decoded if isinstance(decoded, ImageError) else next(done)


def image_maps(measures: Measures, size: int) -> dict[str, torch.Tensor]:
    """The residual map and the flow map at the image's size, (B, size, size) each."""
    stages = [
        F.interpolate(m[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0] for m in measures.flow_maps
    ]
    return {"residual": measures.residual_map, "flow": torch.stack(stages).mean(dim=0)}


@torch.no_grad()
def _measured(net: AEFlow, images: torch.Tensor, facts: list[Facts], maps: bool, pictures: bool) -> list[Measured]:
    """The raw measures of images (B, 3, H, W) as they were read, on the device of ``net``."""
    device = next(net.parameters()).device
    x = images_on(images, device)
    with net.in_bfloat16(Plan.of(device).score_bfloat16):
        measures = net(x)
    return list(_split(measures, measure_traits(x, measures.pooled), facts, x, maps, pictures))


def _split(
    measures: Measures, traits: torch.Tensor, facts: list[Facts], x: torch.Tensor, maps: bool, pictures: bool
) -> Iterator[Measured]:
    flow = measures.flow.double().cpu().numpy()
    reconstruction = measures.reconstruction.double().cpu().numpy()
    ratios = None if measures.log_ratios is None else measures.log_ratios.double().cpu().numpy()
    rows = traits.double().cpu().numpy()
    drawn = {name: m.cpu().numpy() for name, m in image_maps(measures, x.shape[-1]).items()} if maps else {}
    drawn_pictures = (x.cpu().numpy(), measures.x_hat.cpu().numpy()) if pictures else ()
    for i in range(len(flow)):
        yield Measured(
            flow=flow[i],
            reconstruction=float(reconstruction[i]),
            log_ratios=None if ratios is None else ratios[i],
            traits=rows[i],
            facts=facts[i],
            maps={name: m[i] for name, m in drawn.items()},
            pictures=tuple(picture[i] for picture in drawn_pictures),
        )
