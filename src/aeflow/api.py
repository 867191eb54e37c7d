"""Python interface: train or load a model, then score, explain and evaluate with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeflow._types import Floats32
from aeflow.artifacts.layout import is_export
from aeflow.backends.base import Wanted
from aeflow.config import make_settings, region_and_folder
from aeflow.data.load_files import load_files
from aeflow.data.loader import Decoded, in_colour
from aeflow.data.plain_folders import Folders, implied_settings, training_data
from aeflow.data.preprocess import preprocess
from aeflow.data.records import Record, find_images
from aeflow.data.slices import one_image
from aeflow.deploy.open_model import open_model
from aeflow.errors import DataError, SettingsError, count
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Acquisition
from aeflow.imageio.in_memory import WHERE, image_in_memory
from aeflow.privacy import show_typed
from aeflow.reporting.notebook import PURPOSE, lines_html
from aeflow.runtime import ranks
from aeflow.runtime.extras import extra
from aeflow.runtime.process import pick_device
from aeflow.runtime.progress import Listener, heard_by, listening
from aeflow.scoring.scorer import Score, Scorer, score, score_images

if TYPE_CHECKING:  # these import torch and pandas, which a graph does not need
    from pandas import DataFrame

    from aeflow.artifacts.run import Artifact
    from aeflow.results.explanation import Explanation


class Model:
    """A trained model: ``scorer`` scores, ``artifact`` is the network with all its parts.

    Pickled it is the name of its folder, from which it is loaded again: what runs it on one machine, a compiled graph
    for instance, runs on no other.
    """

    def __init__(
        self,
        scorer: Scorer,
        run: Path,
        artifact: Artifact | None = None,
        device: str = "auto",
        backend: str = "auto",
    ) -> None:
        self.scorer = scorer
        self.run = run
        self._artifact = artifact
        self._device = device
        self._backend = backend

    def __repr__(self) -> str:
        return f"Model({str(self.run)!r}, backend={self.scorer.backend.name!r})"

    def _repr_html_(self) -> str:
        calibration, settings = self.scorer.calibration, self.scorer.settings
        lines = [
            f"aeflow model {self.run.name}, by {self.scorer.backend.name}",
            f"encoder {settings.encoder}, {settings.image_size} pixels, region {settings.region}",
            f"threshold {calibration.threshold:.3g}: {calibration.rule}",
            PURPOSE,
        ]
        return lines_html(lines)

    def __reduce__(self) -> tuple[Any, tuple[str, str, str]]:
        return load, (str(self.run.absolute()), self._device, self._backend)

    @property
    def artifact(self) -> Artifact:
        """The network and its parts, read when first asked for; ArtifactError if an export holds none."""
        if self._artifact is None:
            with extra("train"):
                from aeflow.artifacts.run import load_run

            self._artifact = load_run(self.run, pick_device(self._device))
        return self._artifact

    @property
    def threshold(self) -> float:
        """The score above which an image is called abnormal."""
        return self.scorer.calibration.threshold

    def score(self, image: Any, value_range: tuple[float, float] | None = None) -> Score:
        """Score one image, maps included: a file, an array (H, W) or (H, W, 3), a tensor, or an image of Pillow.

        Unsigned integers have the range of their type, floats are in [0, 1]; else ``value_range`` says which values are
        black and white. Raises ImageError if it cannot be read, or is a file that holds several images.
        """
        if isinstance(image, list | tuple) and any(_is_image(one) for one in image):
            found, remedy = (
                f"a {type(image).__name__} of {count(len(image), 'image')}",
                "score_all or frame take several",
            )
            raise SettingsError("image", found, remedy)
        if isinstance(image, str | os.PathLike):
            show_typed([image, Path(image)])
            if value_range is not None:
                raise SettingsError("value_range", "given for a file, which says its own", "leave it out")
            results = score(self.scorer, [one_image(Path(image), self.scorer.settings.slice_axis)], maps=True)
        else:
            show_typed([WHERE])
            results = score_images(self.scorer, [self._in_memory(image, "image", value_range)], maps=True)
        [(_, result)] = results
        if isinstance(result, ImageError):
            raise result
        return result

    def score_all(
        self,
        *images: Any,
        maps: bool = False,
        value_range: tuple[float, float] | None = None,
        progress: Listener | None = None,
    ) -> Iterator[tuple[str, Score | ImageError]]:
        """Score files and folders, volumes slice by slice, or images as ``score`` takes them, also in lists.

        Each name comes with a score or an error; images that are no files are named ``image 1`` and so on.
        ``progress`` is called with the numbers of images that are done and that there are (a volume may turn out to
        hold many), and with what is done; what it raises ends the scoring.
        """
        for record, result in self._scored(images, maps, value_range, progress):
            yield record.name, result

    def frame(
        self, *images: Any, value_range: tuple[float, float] | None = None, progress: Listener | None = None
    ) -> DataFrame:
        """Score as ``score_all`` does, into a DataFrame of pandas with the columns of scores.csv.

        One row an image; refused images have none of the figures, and an ``error``. SettingsError without pandas.
        """
        with extra("pandas"):
            from aeflow.results.score_frame import score_frame

        return score_frame(self._scored(images, False, value_range, progress))

    def _scored(
        self,
        images: Sequence[Any],
        maps: bool,
        value_range: tuple[float, float] | None,
        progress: Listener | None,
    ) -> Iterator[tuple[Record, Score | ImageError]]:
        """Yield each image's record with its score or the error that refused it; see ``score_all``."""
        given = [one for item in images for one in (item if isinstance(item, list | tuple) else [item])]
        if not given:
            raise DataError("images", "none was given", "name at least one image or folder")
        named = (one for one in given if isinstance(one, str | os.PathLike))
        show_typed([WHERE, *(spelling for one in named for spelling in (one, Path(one)))])
        # Files that follow one another are found together: their number is known, and they are decoded ahead.
        parts: list[tuple[list[Record], list[tuple[int, Any]]]] = [
            (find_images([one for _, one in group]), []) if are_files else ([], list(group))
            for are_files, group in groupby(enumerate(given, 1), lambda item: isinstance(item[1], str | os.PathLike))
        ]
        advance = heard_by(progress, "Scoring", sum(len(files) + len(others) for files, others in parts))
        size, axis = self.scorer.backend.size, self.scorer.settings.slice_axis

        def decoded() -> Iterator[tuple[Record, Decoded | ImageError]]:
            for files, others in parts:
                if files:
                    known = {record.path for record in files}
                    yield from load_files(files, size, axis, known=known, more=advance.more)
                for number, one in others:
                    yield self._in_memory(one, f"image {number}", value_range)

        for record, result in score_images(self.scorer, decoded(), maps=maps):
            advance()
            yield record, result

    def _in_memory(
        self, image: Any, name: str, value_range: tuple[float, float] | None
    ) -> tuple[Record, Decoded | ImageError]:
        """Return an image that is no file as one that was decoded."""
        record = Record(WHERE, name, None, None, name, None, None)
        try:
            read = image_in_memory(image, value_range)
        except ImageError as error:
            return record, error
        return record, in_colour(Decoded(preprocess(read, self.scorer.backend.size), Acquisition.of(read)))

    def explain(
        self,
        path: Path | str,
        out: Path | str | None = None,
        slice_number: int | None = None,
        overwrite: bool = False,
    ) -> Explanation:
        """Explain the score of one image, or of one slice (from 1) of a volume.

        Writes ``explain.png`` and ``explain.json`` to ``out`` if given, and replaces former ones to ``overwrite``.

        Raises ImageError if the image cannot be read.
        """
        from aeflow.results.explanation import explain_score
        from aeflow.results.explanation_files import check, write

        show_typed([path, Path(path)])
        if out is not None:
            check(Path(out), Path(path), overwrite)
        if is_export(self.run) or find_spec("torch") is None:
            explanation = explain_score(self.scorer, path, slice_number)
            lacking = "no healthy counterpart and no nearest normals: these need the run and aeflow[train]"
            explanation.notes.append(f"an exported graph shows {lacking}")
        else:
            from aeflow.results.network_explanation import explain

            explanation = explain(self.artifact, path, self.run, slice_number)
        if out is not None:
            write(explanation, self.scorer.calibration.map_limits, Path(out), Path(path))
        return explanation

    def sample(self, n: int, kind: str | None = None, seed: int = 0) -> Floats32:
        """Generate ``n`` images (n, 3, H, W) in [0, 1]: of the model's prior, or of ``"normal"`` or another kind.

        They are draws of whole codes of normals; with prior ``flowgmm`` draws of the flow's latent, see ``generate``.
        Raises SettingsError for a kind that the model does not know, or for ``n`` below 1.
        """
        with extra("train"):
            from aeflow.model.generate import sample
            from aeflow.results.network_explanation import component_of

        if n < 1:
            raise SettingsError("n", count(n, "image"), "ask for at least one")
        component = None if kind is None else component_of(self.artifact, kind)
        return sample(self.artifact.net, n, component, seed).cpu().numpy()

    def recalibrate(self, *normals: Path | str, out: Path | str) -> Model:
        """Write the same network with threshold, p-values and maps of local normal images, as the new run ``out``.

        Raises DataError for too few images, ArtifactError if ``out`` is there already. Warns about refusals, and about
        anything else that the user should know about the images.
        """
        with extra("train"):
            from aeflow.training.recalibrate import recalibrate  # imports torch

        done = recalibrate(self.run, normals, out, device=self._device)
        number = count(len(done.refusals), "image")
        refused = [f"{number} refused; the first: {done.refusals[0][1]}"] if done.refusals else []
        for note in done.notes + refused:
            warnings.warn(note, stacklevel=2)
        return Model(done.artifact.scorer, Path(out), done.artifact, self._device)

    def evaluate(
        self, data: Path | str, split: str = "test", out: Path | str | None = None, overwrite: bool = False
    ) -> dict[str, Any]:
        """Measure on a labelled split; writes report, tables and plots to ``out`` and returns ``metrics.json``.

        Raises OutputError if those of an earlier evaluation are there, unless they are to be replaced (``overwrite``).
        """
        with extra("report"):
            from aeflow.evaluation.evaluate import evaluate  # matplotlib takes a second to import

        place = Path(out or self.run)
        return evaluate(self.scorer, data, split=split, out=place, run=self.run, overwrite=overwrite).metrics


def _is_image(one: Any) -> bool:
    """Return if an item of a list is an image by itself: numbers and rows of numbers are parts of one."""
    return isinstance(one, str | os.PathLike) or getattr(one, "ndim", 0) >= 2 or hasattr(one, "getbands")


def train(
    data: Path | str,
    out: Path | str,
    *,
    abnormal: Folders = (),
    unlabelled: Folders = (),
    all_normal: bool = False,
    preset: str | Path = "default",
    region: Path | str | None = None,
    encoder_weights: Path | str | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Listener | None = None,
    **changes: Any,
) -> Model:
    """Train on the normal images of ``data`` into the run folder ``out``; ``changes`` are settings of the preset.

    ``data`` is a data folder, or a folder of normal images and nothing else. Beside the latter, folders of ``abnormal``
    and of ``unlabelled`` images teach it classes (``classifier="mixture"`` unless another way is named). With
    ``all_normal`` the folder holds a folder a patient, and all below it is normal.
    ``region`` is what counts: none, body, lungs, or a folder with masks of 20 to 50 painted train normals.
    With ``classifier="mixture"`` it also learns from abnormal images (``labels`` of them) and from unlabelled ones,
    with ``prior="flowgmm"`` the flow itself does.
    ``progress`` hears, instead of bars in the terminal, how much is done of how much, and of what: the phases follow
    one another, each from 0. What it raises ends the training, which ``resume`` takes up again.
    In a script that torchrun started, several processes share the work, and each returns the model.
    Warns about anything that the user should know about the data.
    """
    with extra("train"):
        from aeflow.training.train import train as train_run

    given: Any = data
    if not isinstance(given, str | os.PathLike):  # a list of images, say
        found, remedy = f"a {type(given).__name__} where a folder is read", "name the folder that holds the images"
        raise DataError("data", found, remedy)
    with listening(progress), ranks.joined():
        source = training_data(data, abnormal, unlabelled, all_normal)
        painted = None
        if region is not None:
            changes["region"], painted = region_and_folder(region)
        trained = train_run(
            source,
            out,
            make_settings(preset, **{**implied_settings(source), **changes}),
            encoder_weights=None if encoder_weights is None else Path(encoder_weights),
            painted=painted,
            device=device,
            resume=resume,
            overwrite=overwrite,
        )
        notes = trained.notes if ranks.first() else []
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Model(trained.artifact.scorer, Path(out), trained.artifact, device)


def load(run: Path | str, device: str = "auto", backend: str = "auto") -> Model:
    """Load the model of a run folder, or of an exported graph; raises ArtifactError if a file is missing or damaged.

    ``backend`` is torch, openvino, onnx, or auto: the fastest that is available and gives torch's scores here.
    """
    return Model(
        open_model(Path(run), backend, device, wanted=Wanted(maps=True)), Path(run), device=device, backend=backend
    )
