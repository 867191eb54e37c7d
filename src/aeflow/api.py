"""The Python face: train or load a model, then ask it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aeflow import artifact as artifacts
from aeflow import training
from aeflow.artifact import Artifact
from aeflow.config import make_settings
from aeflow.data.records import find_images
from aeflow.data.unfold import one_image, unfold
from aeflow.errors import ImageError, SettingsError
from aeflow.explain import Explanation, component_of, explain
from aeflow.model.generate import sample
from aeflow.runtime import pick_device, prepare
from aeflow.score import Floats, Score, score


class Model:
    """A trained model; ``artifact`` holds its parts."""

    def __init__(self, artifact: Artifact, run: Path) -> None:
        self.artifact = artifact
        self.run = run

    def score(self, path: Path | str) -> Score:
        """Score one image file, maps included; raises ImageError if it cannot be read or holds several images."""
        [(_, result)] = score(self.artifact, [one_image(path, self.artifact.settings.slice_axis)], maps=True)
        if isinstance(result, ImageError):
            raise result
        return result

    def score_all(self, *paths: Path | str, maps: bool = False) -> Iterator[tuple[str, Score | ImageError]]:
        """Score files and folders, volumes slice by slice; each name with its score, or the error that refused it."""
        records = unfold(find_images(paths), self.artifact.settings.slice_axis)
        for record, result in score(self.artifact, records, maps=maps):
            yield record.name, result

    def explain(self, path: Path | str, out: Path | str | None = None, slice_number: int | None = None) -> Explanation:
        """What is behind the score of one image, or of one slice (from 1) of a volume.

        Writes ``explain.png`` and ``explain.json`` to ``out`` if given.

        Raises ImageError if the image cannot be read.
        """
        from aeflow.evaluation.explanation import write  # matplotlib takes a second to import

        explanation = explain(self.artifact, path, self.run, slice_number)
        if out is not None:
            write(explanation, self.artifact.calibration.scales, Path(out))
        return explanation

    def sample(self, n: int, kind: str | None = None, seed: int = 0) -> Floats:
        """``n`` images (n, 3, H, W) in [0, 1] that the model makes up: of its prior, or of ``"normal"`` or a kind.

        Raises SettingsError for a kind that the model does not know, or no image.
        """
        if n < 1:
            raise SettingsError("n", f"{n} images", "ask for at least one")
        component = None if kind is None else component_of(self.artifact, kind)
        return sample(self.artifact.net, n, component, seed).cpu().numpy()

    def evaluate(self, data: Path | str, split: str = "test", out: Path | str | None = None) -> dict[str, Any]:
        """Measure on a labelled split; writes report, tables and plots to ``out`` and returns ``metrics.json``."""
        from aeflow.evaluation.evaluate import evaluate  # matplotlib takes a second to import

        return evaluate(self.artifact, data, split=split, out=Path(out or self.run), run=self.run).metrics


def train(
    data: Path | str,
    out: Path | str,
    *,
    preset: str = "default",
    encoder_weights: Path | str | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    **changes: Any,
) -> Model:
    """Train on the normal images of ``data`` into the run folder ``out``; ``changes`` are settings of the preset.

    With ``prior="gmm"`` abnormal images (``labels`` of them) and unlabelled ones teach, too. What should be known of
    them is warned about.
    """
    trained = training.train(
        data,
        out,
        make_settings(preset, **changes),
        encoder_weights=None if encoder_weights is None else Path(encoder_weights),
        device=device,
        resume=resume,
        overwrite=overwrite,
    )
    for note in trained.notes:
        warnings.warn(note, stacklevel=2)
    return Model(trained.artifact, Path(out))


def load(run: Path | str, device: str = "auto") -> Model:
    """The model of a run folder; raises ArtifactError where a file is missing, damaged or of another kind."""
    prepare()
    return Model(artifacts.load(Path(run), pick_device(device)), Path(run))
