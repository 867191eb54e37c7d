"""Images to label next: near the boundary, unlike all that is labelled, and unlike one another.

Each candidate's worth is ``b d``. ``b = exp(-|ln(p / rate)|)`` is one where the p-value is the rate of false alarms
that the threshold allows: there a label decides most. ``d`` is the distance to the nearest image that is labelled or
chosen already (greedy k-centres, Sener and Savarese 2018), over small pictures of image and map. A worth of
``b + 1 - p`` finds more abnormal images and taught no more on train folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, select

from aeflow.serve.database import Database
from aeflow.serve.tables import images

MOST_CANDIDATES = 4000  # those with the smallest p-values
MOST_LABELLED = 2000  # the last ones


def suggested(database: Database, model: int, rate: float, number: int) -> list[Row[Any]]:
    """Return the images of a model that are worth most to label next, the most valuable first; none that is outside."""
    columns = (images.c.id, images.c.study, images.c.p_value, images.c.score, images.c.outside, images.c.features)
    with database.reading() as connection:
        chosen = select(*columns).where(images.c.model == model, images.c.label == "", images.c.outside == "")
        free: list[Row[Any]] = list(connection.execute(chosen.order_by(images.c.p_value).limit(MOST_CANDIDATES)))
        known = select(images.c.features).where(images.c.label != "").order_by(images.c.at.desc())
        labelled = list(connection.scalars(known.limit(MOST_LABELLED)))
    if not free:
        return []
    p, vectors = np.array([row.p_value for row in free]), _vectors([row.features for row in free])
    return [free[row] for row in most_valuable(p, vectors, _vectors(labelled), rate, number)]


def most_valuable(
    p: NDArray[np.float64], vectors: NDArray[np.float32], labelled: NDArray[np.float32], rate: float, number: int
) -> list[int]:
    """Return the rows of candidates with p-values ``p`` (n,) and ``vectors`` (n, D), the most valuable first."""
    worth = np.exp(-np.abs(np.log(p / rate)))
    distance = np.full(len(p), np.inf)
    for other in labelled:
        distance = np.minimum(distance, _distances(vectors, other))
    chosen: list[int] = []
    for _ in range(min(number, len(p))):
        value = worth * np.where(np.isinf(distance), 1.0, distance)
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        distance = np.minimum(distance, _distances(vectors, vectors[chosen[-1]]))
    return chosen


def _distances(vectors: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean distances (n,) of vectors (n, D) to another one."""
    return np.asarray(np.sqrt(np.square(vectors - other).mean(axis=1)), np.float64)


def _vectors(found: Sequence[bytes]) -> NDArray[np.float32]:
    """Return what the worklist keeps of images as (n, D)."""
    rows = [np.frombuffer(one, "<f2") for one in found]
    return np.stack(rows).astype(np.float32) if rows else np.empty((0, 0), np.float32)
