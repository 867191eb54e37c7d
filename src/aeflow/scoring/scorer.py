"""Scorer of images: the only way to a score, for every caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats, Floats32
from aeflow.backends.base import Backend, BackendOutput
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import InputGuard
from aeflow.config import Settings
from aeflow.data.loader import Decoded, Original, decoded, in_batches
from aeflow.data.records import Record
from aeflow.errors import SettingsError
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Acquisition
from aeflow.model.output_names import MAPS as MAPS

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_DIGITS = 12  # of a fingerprint that name a model
BATCH = 8  # images: 16 take a fifth more memory with torch, and save no time; with OpenVINO it makes no difference


@dataclass(frozen=True, slots=True)
class Scorer:
    """All that a score needs; ``backend`` runs the network, torch or not."""

    settings: Settings
    calibration: Calibration
    input_guard: InputGuard
    backend: Backend
    metadata: dict[str, Any] = field(default_factory=dict)  # what the model was trained on, see docs/design.md
    fingerprint: str = ""  # SHA-256 of the model's model.json

    def at_rate(self, rate: float) -> Self:
        """Return a scorer with the threshold, also of studies, that at most ``rate`` of new normals exceed.

        Raises SettingsError if the held-out normals are too few to promise it.
        """
        return replace(self, calibration=self.calibration.at_rate(rate, self.settings.held_out))

    def at_threshold(self, threshold: float) -> Self:
        """Return a scorer with a threshold that the user names; studies have the rate at which normals exceed it."""
        return replace(self, calibration=self.calibration.at_threshold(threshold))


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One image's raw measures; ``maps`` and ``pictures`` are empty unless asked for."""

    measures: dict[str, Floats]  # by name, see TERMS; () or (columns,)
    log_ratios: NDArray[np.float64] | None  # (kinds,) if the model has classes
    input_statistics: NDArray[np.float64]  # (T,) see ``model.input_statistics``
    acquisition: Acquisition  # facts of the file on how the image was taken
    maps: dict[str, Floats32]  # (H, W) each
    pictures: tuple[Floats32, ...]  # the image and its reconstruction, (3, H, W) each
    image: NDArray[np.uint8] | None = None  # as the network saw it, (H, W) or (H, W, 3); None without maps
    region: Floats32 | None = None  # (H, W) in [0, 1]: how far each pixel counts; None if all do, or without maps
    region_statistics: NDArray[np.float64] | None = None  # (T,) of a learnt region
    original: Original | None = None

    def without_pixels(self) -> Self:
        """Return the measures alone, for those who keep many."""
        return replace(self, maps={}, pictures=(), image=None, region=None, original=None)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Score:
    """Score of an image: how abnormal it is, how sure that is, and where.

    ``value`` is higher for more abnormal; ``p_value`` is the share of held-out normals at least as abnormal; ``maps``
    are to be shown on the model's fixed scale (``map_limits``): ``anomaly`` is a weighted sum of the terms' maps,
    as the score is of terms, each in standard deviations of held-out normals; ``residual``, which comes with
    ``pictures``, is in grey values.

    Two scores are equal if all that they hold is, maps and pictures to the last bit. A notebook shows its picture.
    """

    value: float
    p_value: float
    verdict: str  # "normal" or "abnormal": above the threshold
    threshold: float
    terms: dict[str, float]
    posterior: dict[str, float]  # probability of "normal" and of each kind of abnormality; empty without classes
    maps: dict[str, Floats32]
    pictures: tuple[Floats32, ...]  # the image and its reconstruction, (3, H, W) each in [0, 1], if asked for
    outside: tuple[str, ...] = ()  # why the image is outside the intended input; empty if it is not
    original: Original | None = field(default=None, compare=False)  # the image at its own size, if asked for
    region: Floats32 | None = None  # (H, W) in [0, 1]: how far each pixel counts; None if all do, or without maps
    image: NDArray[np.uint8] | None = None  # as the network saw it, (H, W) or (H, W, 3); None without maps
    map_limits: dict[str, tuple[float, float]] = field(default_factory=dict)  # of each map's colours; see Calibration
    inputs: dict[str, float] = field(default_factory=dict)  # input statistics by column, see INPUT_COLUMNS
    smallest_p: float = field(default=0.0, compare=False)  # that the model can give: a p-value of it is a bound
    model: str = field(default="", compare=False)  # first digits of the model's fingerprint; empty if it was not saved

    def __repr__(self) -> str:
        outside = f", outside {', '.join(self.outside)}" if self.outside else ""
        mapped = "" if self.maps else ", no map"
        return f"Score({self.value:.3f}, p={self.p_value:.2g}, {self.verdict}{outside}{mapped})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Score):
            return NotImplemented
        compared = (one.name for one in fields(self) if one.compare)
        return all(_same(getattr(self, name), getattr(other, name)) for name in compared)

    def __hash__(self) -> int:
        return hash((self.value, self.p_value, self.verdict))  # equal scores share these; maps need not be read

    def plot(self) -> Image:
        """Return a picture of image, anomaly map and score, as an image of Pillow; SettingsError without the map.

        A notebook shows it, ``.save("score.png")`` keeps it, and ``axes.imshow(score.plot())`` puts it into a figure.
        """
        if self.map is None:
            remedy = "ask for it: model.score(image), or model.score_all(images, maps=True)"
            raise SettingsError("maps", "this score was made without its map", remedy)
        from aeflow.reporting.score_picture import Frame  # fonts and colours, which scoring alone does not need

        limits = {"anomaly": self.map_limits["anomaly"]}
        return Frame(limits, self.map.shape[0], reconstructed=bool(self.pictures)).picture(self)

    def _repr_html_(self) -> str:
        from aeflow.reporting.notebook import score_html

        return score_html(self, None if self.map is None else self.plot())

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but maps and pictures as plain values, for a row of a table."""
        return {
            "score": self.value,
            "p_value": self.p_value,
            "verdict": self.verdict,
            "threshold": self.threshold,
            **self.terms,
            **{f"p({kind})": probability for kind, probability in self.posterior.items()},
            "outside": ", ".join(self.outside),
            **self.inputs,
        }

    @property
    def map(self) -> Floats32 | None:
        """The anomaly map, (H, W), if maps were asked for."""
        return self.maps.get("anomaly")


def score(
    scorer: Scorer,
    records: Sequence[Record],
    *,
    maps: bool = False,
    pictures: bool = False,
    batch_size: int = BATCH,
) -> Iterator[tuple[Record, Score | ImageError]]:
    """Yield (record, Score or ImageError) in input order; memory does not grow with the number of records."""
    images = decoded(records, scorer.backend.size, ahead=2 * batch_size)
    return score_images(scorer, images, maps=maps, pictures=pictures, batch_size=batch_size)


def score_images(
    scorer: Scorer,
    images: Iterable[tuple[Record, Decoded | ImageError]],
    *,
    maps: bool = False,
    pictures: bool = False,
    batch_size: int = BATCH,
) -> Iterator[tuple[Record, Score | ImageError]]:
    """Yield what ``score`` does, for images that are already decoded."""
    for record, measured in measure_images(scorer.backend, images, maps, pictures, batch_size):
        if isinstance(measured, ImageError):
            yield record, measured
            continue
        found = calibrated(scorer, measured)
        if not np.isfinite(found.value):
            remedy = "look at the image; it is far from any seen"
            yield record, ImageError(record.path, f"its score is {found.value}", remedy)
            continue
        yield record, found


def calibrated(scorer: Scorer, measured: Measured) -> Score:
    """Return the score of raw measures."""
    calibration = scorer.calibration
    ratios = None if measured.log_ratios is None else measured.log_ratios[None]
    terms = calibration.terms({name: measure[None] for name, measure in measured.measures.items()}, ratios)
    value = float(calibration.value(terms)[0])
    return Score(
        value=value,
        p_value=calibration.p_value(value),
        verdict=calibration.verdict(value),
        threshold=calibration.threshold,
        terms={name: float(term[0]) for name, term in terms.items()},
        posterior=calibration.posterior.probabilities(ratios)[0]
        if calibration.posterior is not None and ratios is not None
        else {},
        maps=measured.maps,
        pictures=measured.pictures,
        region=measured.region,
        image=measured.image,
        map_limits=calibration.map_limits if measured.maps else {},
        outside=scorer.input_guard.outside(measured.input_statistics, measured.acquisition, measured.region_statistics),
        original=measured.original,
        inputs={
            name: float(value[0])
            for name, value in scorer.input_guard.columns(measured.input_statistics[None]).items()
            if np.isfinite(value[0])
        },
        smallest_p=calibration.smallest_p,
        model=scorer.fingerprint[:MODEL_DIGITS],
    )


def measure(
    backend: Backend, records: Sequence[Record], *, maps: bool = False, pictures: bool = False, batch_size: int = BATCH
) -> Iterator[tuple[Record, Measured | ImageError]]:
    """Yield each record with its raw measures, before calibration; otherwise as ``score``."""
    return measure_images(backend, decoded(records, backend.size, 2 * batch_size), maps, pictures, batch_size)


def measure_images(
    backend: Backend,
    images: Iterable[tuple[Record, Decoded | ImageError]],
    maps: bool = False,
    pictures: bool = False,
    batch_size: int = BATCH,
) -> Iterator[tuple[Record, Measured | ImageError]]:
    """Yield what ``measure`` does, for images that are already decoded."""
    for batch in in_batches(images, batch_size):
        read = [x for _, x in batch if not isinstance(x, ImageError)]
        done: Iterator[Measured] = iter(())
        if read:
            x = np.stack([image.pixels for image in read])
            done = _split(backend.run(x, maps, pictures), read, x)
        for record, image in batch:
            yield record, image if isinstance(image, ImageError) else next(done)


def _split(raw: BackendOutput, images: Sequence[Decoded], x: Floats32) -> Iterator[Measured]:
    """Yield the measures of each image, with its pixels from ``x`` (B, 3, H, W) if there is its reconstruction."""
    for i, image in enumerate(images):
        yield Measured(
            measures={name: np.asarray(measure[i]) for name, measure in raw.measures.items()},
            log_ratios=None if raw.log_ratios is None else raw.log_ratios[i],
            input_statistics=raw.input_statistics[i],
            acquisition=image.acquisition,
            maps={name: m[i] for name, m in raw.maps.items()},
            pictures=() if raw.x_hat is None else (x[i], raw.x_hat[i]),
            image=_as_seen(x[i]) if raw.maps else None,
            region=None if raw.region is None else raw.region[i],
            region_statistics=None if raw.region_statistics is None else raw.region_statistics[i],
            original=image.original,
        )


def _as_seen(x: Floats32) -> NDArray[np.uint8]:
    """Return an image (3, H, W) in [0, 1] in 256 steps, (H, W) if it is grey, else (H, W, 3): light beside its maps."""
    shown = x[0] if (x == x[:1]).all() else x.transpose(1, 2, 0)
    return np.rint(255 * shown).astype(np.uint8)


def _same(one: Any, other: Any) -> bool:
    """Return if two values of a score are equal, arrays to the last bit."""
    if isinstance(one, np.ndarray):
        alike = isinstance(other, np.ndarray) and (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and one.tobytes() == other.tobytes()
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(one == other)


def value_of(calibration: Calibration, raw: BackendOutput) -> NDArray[np.float64]:
    """Return the scores (B,) of a batch."""
    return calibration.value(calibration.terms(raw.measures, raw.log_ratios))


def check_guard(guard: InputGuard, raw: BackendOutput) -> None:
    """Raise ValueError if an input guard is not made for what a model says of images."""
    regions = None if raw.region_statistics is None else raw.region_statistics[0]
    guard.outside(raw.input_statistics[0], None, regions)
