"""Recalibration of a trained model on normal images from where it will be used: another calibration, equal weights.

The terms' mean and spread, the held-out scores behind p-values and threshold, and the maps' scale are taken from the
local normals by the rule of training (``fit_calibration``). Two other rules were measured and dropped
(benchmarks/shift): giving the held-out scores the local mean and spread promises finer p-values, but flags more images
than the rank on both sets; widened by Student's t it still does on the brain.

The classes' evidence (``posterior``) stays as it is: normals alone do not show how abnormal images of another place
would score. The threshold is that of the whole score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aeflow._types import Floats
from aeflow.artifacts.layout import EPOCH_SCORES, HISTORY, NORMALS, holds, member
from aeflow.artifacts.run import Artifact, load_run, save_run
from aeflow.calibration.calibration import Calibration, fit_calibration, too_few, too_few_patients, with_posterior
from aeflow.calibration.map_scale import MAX_MAPPED_NORMALS, MapPixels, MapScale
from aeflow.config import Settings
from aeflow.data.records import Record, Refusals
from aeflow.data.slices import refusals_among, unfold
from aeflow.data.splits import evenly
from aeflow.errors import count
from aeflow.imageio.errors import ImageError
from aeflow.imageio.limits import LIMITS
from aeflow.privacy import SALT_OF, pseudonym
from aeflow.runtime.files import content, write_bytes
from aeflow.runtime.folders import alone, together
from aeflow.runtime.inputs import Inputs
from aeflow.runtime.process import pick_device
from aeflow.runtime.progress import bar
from aeflow.scoring.scorer import Measured, measure
from aeflow.training.calibrate import together as together_measured
from aeflow.training.local_normals import check_enough, check_place, local_normals

MAX_OUTSIDE = 0.5  # share of local normals outside the intended input; a note warns of more
COPIED_FILES = (HISTORY, EPOCH_SCORES, NORMALS)  # copied from the old run, if there


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """Result of a recalibration, beside the files in its run folder."""

    artifact: Artifact
    refusals: Refusals
    notes: list[str]  # what the user should know of the images


def recalibrate(
    run: Path | str, normals: Sequence[Path | str], out: Path | str, *, device: str = "auto"
) -> Recalibrated:
    """Set threshold, p-values, terms and maps of a run on local normal images, and write it as the new run ``out``.

    Raises DataError for fewer than ``MIN_LOCAL_NORMALS`` different readable images, or for a folder that holds other
    classes, too; ArtifactError if ``out`` is there already or ``run`` holds no network.
    """
    target = Path(out)
    check_place(target)
    with alone(target):
        check_place(target)
        return _recalibrated(Path(run), normals, target, device)


def _recalibrated(run: Path, normals: Sequence[Path | str], target: Path, device: str) -> Recalibrated:
    """Recalibrate into a folder that is held."""
    files = local_normals(normals)
    old = load_run(run, pick_device(device))
    records = unfold(files, old.settings.slice_axis)
    measured, refusals, maps = _measure(old, records)
    read = [record for record, _ in measured]
    digests = {path: content(path, LIMITS.max_bytes) for path in {record.path for record in read}}
    different = len({(digests[record.path], record.at) for record in read})
    reason = f" (first refusal: {refusals[0][1]})" if refusals else ""
    check_enough(different, "different readable normal image", reason)
    outside = sum(
        bool(old.input_guard.outside(image.input_statistics, image.acquisition, image.region_statistics))
        for _, image in measured
    )
    patients = len({record.patient for record in read})
    metadata = {
        "images": len(read),
        "patients": patients,
        "refused_images": len(refusals),
        "outside": outside,
        "content": sorted({pseudonym(digest) for digest in digests.values() if digest}),
        "salt": pseudonym(SALT_OF),  # tells whether it is known here; who lacks it cannot try out images
        "original": _original(old),
    }
    local = together_measured(old.settings, [image for _, image in measured], [record.patient for record in read])
    calibration = refit(old.calibration, old.settings, local.measures, local.log_ratios, maps)
    table = local.table(calibration, old.input_guard).to_json()
    new = replace(old, calibration=calibration, metadata={**old.metadata, "recalibration": metadata, "normals": table})
    _write(new, run, target)
    return Recalibrated(new, refusals, _notes(new, metadata))


def _measure(
    model: Artifact, records: Sequence[Record]
) -> tuple[list[tuple[Record, Measured]], Refusals, dict[str, MapScale]]:
    """Return the raw measures of each image that can be read, the refusals, and the scale of each map."""
    measured: list[tuple[Record, Measured]] = []
    refusals: Refusals = []
    pixels = MapPixels()
    with bar("Recalibrating", len(records)) as advance:
        mapped = set(evenly(records, MAX_MAPPED_NORMALS))
        for record, found in measure(model.scorer.backend, records, maps=True, pictures=True):
            advance()
            if isinstance(found, ImageError):
                refusals.append((record, found))
                continue
            if record in mapped:
                pixels.add(found.maps, found.region)
            measured.append((record, found.without_pixels()))
    return measured, refusals_among(refusals), pixels.scales()


def refit(
    old: Calibration,
    settings: Settings,
    measures: Mapping[str, Floats],
    log_ratios: Floats | None,
    maps: dict[str, MapScale],
) -> Calibration:
    """Return the calibration on the raw measures of other normals, as ``fit_calibration`` takes them.

    ``posterior`` stays.
    """
    calibration = fit_calibration(settings, measures, maps)
    if old.posterior is None or log_ratios is None:
        return calibration
    return with_posterior(calibration, settings, old.posterior, measures, log_ratios)


def _original(model: Artifact) -> dict[str, Any]:
    """Return the calibration that training gave, for reference, however often the model was recalibrated."""
    if "recalibration" in model.metadata:
        original: dict[str, Any] = model.metadata["recalibration"]["original"]
        return original
    calibration = model.calibration
    return {"threshold": calibration.threshold, "rule": calibration.rule, "images": len(calibration.scores)}


def _notes(model: Artifact, metadata: dict[str, Any]) -> list[str]:
    """Return what the user should know."""
    images, patients, rate = metadata["images"], metadata["patients"], model.settings.false_positive_rate
    notes = []
    if few := too_few_patients(images, patients, rate):
        notes.append(f"the {few}")
    if few := too_few(images, "image", rate):
        notes.append(f"{few}; see the rule")
    if metadata["outside"] > MAX_OUTSIDE * images:
        what = f"{metadata['outside']:,} of {count(images, 'image')} are outside the model's intended input"
        notes.append(f"{what}: a new threshold does not mend that; train on images of this kind")
    return notes


def _write(model: Artifact, run: Path, out: Path) -> None:
    """Write the new run folder, as a whole or not at all."""
    with together(out, (), Inputs()) as staged:
        for name in COPIED_FILES:
            if holds(run, name):
                write_bytes(staged / name, member(run, name, f"delete {name}: it may be missing").read_bytes())
        save_run(model, staged)
