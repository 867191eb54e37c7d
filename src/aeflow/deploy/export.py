"""Export of a trained model as one graph, from pixels to calibrated scores and maps, if it gives the same scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import Tensor

from aeflow.artifacts import exported_graph
from aeflow.artifacts.exported_graph import TOLERANCE, Pictures, as_pixels
from aeflow.artifacts.layout import (
    EXPORT,
    EXPORT_SCHEMA,
    OF_EXPORT,
    ONE_FILE,
    holds,
    of_export,
    read_metadata,
    write_checked,
)
from aeflow.artifacts.reference_normals import ReferenceNormals
from aeflow.artifacts.run import Artifact, load_run
from aeflow.artifacts.schema import ARRAYS_FILE
from aeflow.backends.base import BackendOutput
from aeflow.backends.graph_file import write_graph
from aeflow.backends.registry import missing, of_format
from aeflow.backends.score_graph import ScoreGraph
from aeflow.data.splits import evenly
from aeflow.errors import REPLACE, ArtifactError
from aeflow.model import output_names
from aeflow.model.generate import sample
from aeflow.runtime.files import file_digest, replacing
from aeflow.runtime.folders import alone, current, foreign, scratch, together
from aeflow.runtime.inputs import Inputs
from aeflow.runtime.one_file import MAX_BYTES, packed
from aeflow.runtime.progress import working
from aeflow.scoring.scorer import BATCH, value_of

COARSE, GENERATED = 4, 6  # test images of noise, and generated ones, which are altered, too
MAX_NORMALS = 32  # train normals that a graph is proven on as well
PACKING = ".packing-"  # prefix of folders whose files become one


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences of a graph's scores from torch's, in standard deviations of the held-out normals' scores."""

    score: float  # largest difference of the score that aeflow computes with the graph
    own_score: float  # the same for the score that the graph computes itself
    maps: dict[str, float]  # largest difference of each map, in widths of its scale
    images: int
    abnormal: int  # of them, as torch calls them
    flips: int  # verdicts that differ

    @property
    def largest(self) -> float:
        """The larger of the two differences of scores."""
        return max(self.score, self.own_score)

    @property
    def passes(self) -> bool:
        """If the graph may be used."""
        return self.largest <= TOLERANCE and self.flips == 0


def export(run: Path, to: str, out: Path | None = None, overwrite: bool = False) -> tuple[Path, Parity]:
    """Write the graph of a run to ``out``, by default ``RUN/onnx`` or ``RUN/openvino``, if it gives the same scores.

    ``out`` is a folder, or one file with all that such a folder holds if its name ends in ``.aeflow``. Raises
    SettingsError for an unknown or unavailable format; ArtifactError, with nothing written, if a score differs by more
    than ``TOLERANCE``, a verdict flips, or ``out`` holds something else than an export, or one that is not to be
    overwritten. The files of a former export are replaced together; others beside it stay.
    """
    of_format(to)
    place = run / to if out is None else out
    one_file = place.suffix == ONE_FILE
    _check_place(place, one_file, overwrite)
    metadata = read_metadata(run)
    artifact = load_run(run, metadata=metadata)
    inputs = Inputs(current(run).iterdir())
    if one_file:
        inputs.spare(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as file, scratch(place.parent, PACKING) as folder:
            parity = _proven(artifact, run, metadata, to, folder, place)
            file.write(_packed(folder, place))
    else:
        with alone(place), together(place, of_export(place), inputs, gap=False) as folder:
            parity = _proven(artifact, run, metadata, to, folder, place)
    return place, parity


def _check_place(place: Path, one_file: bool, overwrite: bool) -> None:
    """Raise ArtifactError if something else than an export is where one is to be written, or one that is to stay."""
    taken = place.is_dir() or (place.exists() and not holds(place, EXPORT))
    if one_file and taken:
        raise ArtifactError(place, "is there, and no export in one file", "choose another --out")
    if not one_file and place.exists() and not place.is_dir():
        raise ArtifactError(place, "is a file", f"name a folder, or a file that ends in {ONE_FILE}")
    if not one_file and not holds(place, EXPORT) and foreign(place):
        raise ArtifactError(place, "holds something else than an export", "choose another --out")
    if holds(place, EXPORT) and not overwrite:
        raise ArtifactError(place, "already holds an export", f"choose another --out, or {REPLACE}")


def _proven(artifact: Artifact, run: Path, metadata: dict[str, Any], to: str, folder: Path, place: Path) -> Parity:
    """Make an export in an empty folder; ArtifactError for its ``place`` if it gives other scores."""
    parity = make(artifact, run, metadata, to, folder)
    if not parity.passes:
        raise unequal(place, parity)
    return parity


def _packed(folder: Path, place: Path) -> bytes:
    """Return the files of an export as the content of one; ArtifactError if they are too large for that."""
    files = {name: folder / name for name in OF_EXPORT if (folder / name).is_file()}
    size = sum(path.stat().st_size for path in files.values())
    if size > 0.95 * MAX_BYTES:  # zipfile leaves that room
        raise ArtifactError(place, f"{size:,} bytes are too many for one file", "export it to a folder")
    return packed({name: path.read_bytes() for name, path in files.items()})


def unequal(where: object, parity: Parity) -> ArtifactError:
    """Return the error for a graph that gives other scores."""
    found = (
        f"not written: scores differ by up to {parity.largest:.2g} standard deviations of held-out normals where "
        f"{TOLERANCE:g} is allowed, and {parity.flips} of {parity.images} verdicts flip"
    )
    return ArtifactError(where, found, "score with --backend torch")


def make(
    artifact: Artifact, run: Path, model: dict[str, Any], to: str, folder: Path, what: str = "Making the graph"
) -> Parity:
    """Make an export in an empty folder; return its parity, which says if it may be used.

    ``model`` is the content of the run's ``model.json``; ``what`` names what is being made.
    """
    backend = of_format(to)
    if not backend.installed():
        raise missing(to)
    graph = ScoreGraph(artifact.net, artifact.calibration).eval()
    size = artifact.settings.image_size
    with working(f"{what}, about a minute"):
        write_graph(graph, graph.outputs, size, folder / backend.graph_file)
    exported_graph.save_arrays(folder, artifact.input_guard, test_images(artifact))
    content = {
        "schema": EXPORT_SCHEMA,
        "format": to,
        "outputs": list(graph.outputs),
        "files": {path.name: file_digest(path) for path in sorted(folder.iterdir())},
        "versions": {name: version(name) for name in ("aeflow", "torch", *backend.packages)},
        "model": model,
    }
    with working("Proving that it scores as the network does"):
        parity = prove(artifact, folder, content, run)
    write_checked(folder / EXPORT, {**content, "parity": asdict(parity)})
    return parity


def prove(artifact: Artifact, folder: Path, content: dict[str, Any], run: Path) -> Parity:
    """Compare a graph's scores and maps with torch's, on its test images and on small pictures of train normals.

    ``content``, that of its ``export.json``, gets torch's scores of the test images; nothing is kept of the pictures,
    which a run may lack.
    """
    kept = load_file(folder / ARRAYS_FILE)[exported_graph.IMAGES]
    images = np.concatenate([kept, normals_of(run, artifact)])
    calibration, reference = artifact.calibration, artifact.scorer.backend
    files = {name: (folder / name).read_bytes() for name in content["files"]}
    backend = exported_graph.open_graph(files, content, artifact.settings.image_size, content["format"])
    rows, maps = [], dict.fromkeys(output_names.MAPS, 0.0)
    for start in range(0, len(images), BATCH):
        x = as_pixels(images[start : start + BATCH])
        outputs = backend.outputs(x, tuple(content["outputs"]))
        ours, theirs = BackendOutput.of(outputs), reference.run(x, maps=True, pictures=True)
        rows.append(np.stack([value_of(calibration, theirs), value_of(calibration, ours), outputs[output_names.SCORE]]))
        for name in output_names.MAPS:
            scale = calibration.maps[name]
            difference = float(np.abs(theirs.maps[name] - ours.maps[name]).max()) / (scale.high - scale.low)
            maps[name] = max(maps[name], difference)
    want, got, own = np.concatenate(rows, axis=1)
    content["self_test"] = want[: len(kept)].tolist()
    called = [[calibration.verdict(value) for value in values] for values in (want, got)]
    return Parity(
        score=exported_graph.largest(got, want, calibration),
        own_score=exported_graph.largest(own, want, calibration),
        maps=maps,
        images=len(images),
        abnormal=called[0].count("abnormal"),
        flips=sum(a != b for a, b in zip(*called, strict=True)),
    )


def test_images(artifact: Artifact) -> Pictures:
    """Return images (n, 3, H, W) uint8 of no patient: coarse noise, generated images, and altered generated ones."""
    size, generator = artifact.settings.image_size, torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.rand(COARSE, 1, 8, 8, generator=generator), (size, size), mode="bilinear")
    made_up = sample(artifact.net, GENERATED, seed=0).cpu()
    altered = [_altered(x, i, generator) for i, x in enumerate(made_up)]
    return _as_uint8(torch.cat([coarse.expand(-1, 3, -1, -1), made_up, torch.stack(altered)]))


def normals_of(run: Path, artifact: Artifact) -> Pictures:
    """Return a run's pictures of train normals (n, 3, H, W) uint8, at most MAX_NORMALS: they score as normals do."""
    size, table = artifact.settings.image_size, ReferenceNormals.load(run, len(artifact.input_guard.mean))
    if table is None:
        return np.zeros((0, 3, size, size), np.uint8)
    few = table.pictures[evenly(range(len(table.pictures)), MAX_NORMALS)]
    x = F.interpolate(few[:, None].float() / 255, (size, size), mode="bilinear")
    return _as_uint8(x.expand(-1, 3, -1, -1))


def _as_uint8(x: Tensor) -> Pictures:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _altered(x: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Return one image (3, H, W) changed in one of four ways."""
    side = x.shape[-1]
    match number % 4:
        case 0:
            half, start = side // 3, side // 4
            x = x.clone()
            x[:, start : start + half, start : start + half] = torch.rand(half, half, generator=generator)
            return x
        case 1:
            return 1 - x
        case 2:
            return 0.5 + 2 * (x - x.mean())
    return x.rot90(1, (1, 2))
