"""Interface of every backend: pixels in, raw measures out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats, Floats32
from aeflow.model import output_names
from aeflow.model.terms import TERMS

# Of one value in a graph, which may come from a stranger: 2 GB. The largest of an image of 2048 pixels has an eighth.
MAX_ELEMENTS = 2**29


@dataclass(frozen=True, slots=True)
class BackendOutput:
    """The raw measures of a batch, before calibration; ``maps`` and ``x_hat`` only if they were asked for."""

    measures: dict[str, Floats]  # of each of the model's TERMS, (B,) or (B, columns)
    log_ratios: Floats | None  # (B, kinds) if the model has classes
    input_statistics: Floats  # (B, T), see ``model.input_statistics``
    maps: dict[str, Floats32]  # (B, H, W) each
    x_hat: Floats32 | None  # (B, 3, H, W), in the box around the region
    region: Floats32 | None = None  # (B, H, W) in [0, 1]: how far each pixel counts; None if all do, or without maps
    region_statistics: Floats | None = None  # (B, T), if the region was learnt; see ``model.regions.plausibility``

    @classmethod
    def of(cls, outputs: Mapping[str, NDArray[Any]]) -> Self:
        """Build from a mapping of output name to array."""
        ratios = outputs.get(output_names.LOG_RATIOS)
        statistics = outputs.get(output_names.REGION_STATISTICS)
        return cls(
            measures={
                name: np.asarray(outputs[term.output], np.float64)
                for name, term in TERMS.items()
                if term.output in outputs
            },
            log_ratios=None if ratios is None else np.asarray(ratios, np.float64),
            input_statistics=np.asarray(outputs[output_names.INPUT_STATISTICS], np.float64),
            maps={
                name: outputs[output_names.of_map(name)]
                for name in output_names.MAPS
                if output_names.of_map(name) in outputs
            },
            region=outputs.get(output_names.REGION),
            region_statistics=None if statistics is None else np.asarray(statistics, np.float64),
            x_hat=outputs.get(output_names.X_HAT),
        )


class Wanted(NamedTuple):
    """What is asked of a backend beside the raw measures, see ``Backend.run``."""

    maps: bool = False
    pictures: bool = False


PLAIN = Wanted()


class Backend(Protocol):
    """Interface of what runs a model on images of one size."""

    @property
    def name(self) -> str:
        """Name of the backend: torch, openvino or onnx."""

    @property
    def size(self) -> int:
        """Side of the images in pixels."""

    def run(self, x: Floats32, maps: bool = False, pictures: bool = False) -> BackendOutput:
        """Return the raw measures of images ``x`` (B, 3, size, size) in [0, 1], with maps and x_hat if asked for.

        Among the maps is the residual map only if x_hat is asked for as well.
        """


class GraphBackend(ABC):
    """Base of the backends that run a graph file; only the outputs that are asked for are computed."""

    name: ClassVar[str]  # of the backend and of its own format
    graph_file: ClassVar[str]  # name of the file with the graph in that format
    formats: ClassVar[tuple[str, ...]]  # formats that it runs
    packages: ClassVar[tuple[str, ...]]  # they write and run its format; the version of the last decides the results
    install: ClassVar[str]  # argument of pip install
    one_by_one: ClassVar[bool]  # if images are handed over one at a time
    keep: bool = False  # if what a runtime compiles it to stays in the cache, for the next process

    def __init__(self, files: Mapping[str, bytes], size: int, outputs: Sequence[str]) -> None:
        """Open a graph of images (B, 3, size, size) that computes ``outputs``, from the files of its format by name."""
        self.size = size
        self._outputs = tuple(outputs)

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """Return the names of the files of a graph in its own format."""
        return (cls.graph_file,)

    @classmethod
    def installed(cls) -> bool:
        """Return if the packages that write and run its format can be imported."""
        return all(find_spec(name) is not None for name in cls.packages)

    def run(self, x: Floats32, maps: bool = False, pictures: bool = False) -> BackendOutput:
        """Return the raw measures of images ``x``, as every backend does."""
        return BackendOutput.of(self.outputs(x, names_of(self._outputs, maps, pictures)))

    @abstractmethod
    def outputs(self, x: Floats32, names: tuple[str, ...]) -> dict[str, Floats32]:
        """Return some outputs by name, of images ``x`` (B, 3, size, size) in [0, 1]."""


def names_of(outputs: Sequence[str], maps: bool, pictures: bool) -> tuple[str, ...]:
    """Return the names of a graph's outputs that ``BackendOutput`` needs."""
    always = {
        *(term.output for term in TERMS.values()),
        output_names.LOG_RATIOS,
        output_names.INPUT_STATISTICS,
        output_names.REGION_STATISTICS,
    }
    asked = (
        always
        | ({output_names.of_map("anomaly"), output_names.REGION} if maps else set())
        | ({output_names.X_HAT} if pictures else set())
        | ({output_names.of_map("residual")} if maps and pictures else set())  # it needs the reconstruction
    )
    return tuple(name for name in outputs if name in asked)
