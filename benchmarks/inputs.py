"""Images, features and scores of records; the first refused image ends a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from aeflow._types import Floats, Floats32
from aeflow.data.loader import stream
from aeflow.data.records import Record
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.imageio.errors import ImageError
from aeflow.model.aeflow import AEFlow
from aeflow.model.front import Encoded
from aeflow.scoring.scorer import Score, Scorer, score


def labels_of(records: Sequence[Record]) -> list[int]:
    """Return the labels of records; those without one count as normal."""
    return [int(record.label or 0) for record in records]


def pixels_of(records: Sequence[Record], size: int) -> Iterator[Floats32]:
    """Yield the pixels (3, size, size) in [0, 1] of each record."""
    for _, x in stream(records, size):
        if isinstance(x, ImageError):
            raise x
        yield x


def features_of(cache: FeatureCache, records: Sequence[Record], view: int = 0) -> Features:
    """Return the features of all records."""
    features, refused = cache.features(records, view=view)
    if refused:
        raise refused[0][1]
    return features


def measures_of(net: AEFlow, features: Features) -> tuple[dict[str, Floats], Floats]:
    """Return the raw measures of all images by term, and their log-ratios (n, kinds), (n, 0) without classes."""
    return measures_of_encoded(net, (net.encoded(*batch) for batch in features.batches(net.settings.batch_size)))


@torch.no_grad()
def measures_of_encoded(net: AEFlow, batches: Iterable[Encoded]) -> tuple[dict[str, Floats], Floats]:
    """Return the same of batches as the frozen front gave them."""
    terms, ratios = [], []
    for encoded in batches:
        latent = net.encode(encoded)
        terms.append(net.measure(encoded, latent, net.needed_x_hat(encoded, latent), maps=False).terms)
        found = net.log_ratios(encoded, latent)
        ratios.append(torch.zeros(len(encoded.x), 0) if found is None else found)
    by_name = {name: torch.cat([part[name] for part in terms]).double().numpy() for name in net.settings.chosen_terms}
    return by_name, torch.cat(ratios).double().numpy()


def scores_of(
    scorer: Scorer, records: Sequence[Record], *, maps: bool = False, pictures: bool = False
) -> Iterator[tuple[Record, Score]]:
    """Yield each record with its score."""
    for record, result in score(scorer, records, maps=maps, pictures=pictures):
        if isinstance(result, ImageError):
            raise result
        yield record, result


def link_images(folder: Path, images: Iterable[Path]) -> Path:
    """Make a folder of links to images, whose names keep their order, and return it."""
    folder.mkdir(parents=True)
    for number, path in enumerate(images):
        (folder / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
    return folder
