"""Images to learn from, normals-only models of some of them, and classes learnt from the others."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from aeflow._types import Floats, Floats32
from aeflow.artifacts.run import Artifact, load_run
from aeflow.backends.torch import TorchBackend
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.posterior import fit_posterior
from aeflow.config import Settings, make_settings
from aeflow.data.augment import Change, recapture
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import hold_out, leave_out_patients, shared_patients
from aeflow.features.cache import FeatureCache
from aeflow.imageio.errors import ImageError
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import pretrained
from aeflow.model.front import Front, Pooled
from aeflow.model.regions import REGIONS
from aeflow.scoring.scorer import measure
from aeflow.training import train as training
from aeflow.training.class_mixture_em import Examples, MixtureFit, Pool, fit_class_mixture
from aeflow.training.confirm_pool import second_opinion
from aeflow.training.plan import DIFFUSE, FOCAL
from benchmarks.inputs import features_of, labels_of


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of the normals-only models, and of what learns classes beside the terms that it names."""

    trained: Settings
    learnt: Settings

    @property
    def end_to_end(self) -> bool:
        """Whether there is a flow that a mixture can be trained in."""
        return "flow" in self.trained.chosen_terms


PLANS = {
    "aeflow-1": Plan(make_settings("aeflow-1"), make_settings("aeflow-1", classifier="mixture")),
    # What a user would say of pneumonias: `--region lungs --looks-for diffuse`. Terms are fitted apart, so these two
    # are taken from a model that has a flow as well, which prior flowgmm starts from.
    "lungs": Plan(
        make_settings("default", region="lungs"),
        make_settings("default", region="lungs", terms=DIFFUSE, classifier="mixture"),
    ),
    # ... and of tumours: `--looks-for focal`, without a flow.
    "focal": Plan(make_settings("default", terms=FOCAL), make_settings("default", terms=FOCAL, classifier="mixture")),
}
Rows = NDArray[np.int64]


@dataclass
class World:
    """All images, their pooled vectors, and the rows that may be learnt from."""

    plan: Plan
    records: list[Record]
    encoder: Pooled
    s: Floats
    recaptured: Floats  # of train images
    normals: Rows
    abnormal: Rows  # of persons who are not in the test split
    test: Rows

    @property
    def truth(self) -> list[int]:
        """Return the labels of the test images."""
        return labels_of([self.records[row] for row in self.test])


def vectors(encoder: Pooled, records: list[Record], view: int = 0, change: Change = recapture) -> Floats:
    """Return the pooled vectors of images, (n, D)."""
    return features_of(FeatureCache(encoder, encoder.front.size, change=change), records, view).vectors()


def rows_of(records: list[Record], among: list[Record]) -> Rows:
    """Return the rows of some records among all."""
    index = {record: row for row, record in enumerate(among)}
    return np.array([index[record] for record in records])


@dataclass
class Base:
    """Normals-only model: its network, the rows that it knows and that it held out, and its raw measures of any row."""

    net: AEFlow
    kept: Rows
    held: Rows
    measures: Callable[[Rows], dict[str, Floats]]
    calibration: Calibration  # of the terms beside which classes are learnt

    def score(self, rows: Rows) -> Floats:
        """Return the scores (n,) of some rows."""
        return self.calibration.normals_only(self.calibration.terms(self.measures(rows)))

    def beside_held_out(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return the scores of the held-out normals (n,), and of some rows (m,)."""
        return self.score(self.held), self.score(rows)


def other_scanner(pixels: Floats32, key: str) -> Floats32:
    """Change contrast, crop and compression, the same for all images."""
    size = pixels.shape[1]
    edge = round(0.05 * size)
    image = PIL.Image.fromarray((pixels[0] ** 0.8 * 255).astype(np.uint8)).crop((edge, edge, size - edge, size - edge))
    file = io.BytesIO()
    image.resize((size, size), PIL.Image.Resampling.BILINEAR).save(file, "JPEG", quality=45)
    return np.stack([np.asarray(PIL.Image.open(file), dtype=np.float32) / 255] * 3)


def read_world(data: Path, plan: Plan) -> World:
    """Read a data set."""
    settings = plan.learnt
    records = read_records(data)
    train, test = ([r for r in records if r.split == split] for split in ("train", "test"))
    frozen = pretrained(settings.encoder, settings.encoder_stages)
    region = REGIONS[settings.region](frozen) if settings.describes else None
    encoder = Pooled(Front(frozen, region, settings), settings.class_stages)
    s, recaptured = vectors(encoder, [*train, *test]), vectors(encoder, train, 1)
    abnormal = of_label(train, 1)
    free = leave_out_patients(abnormal, shared_patients(abnormal, test))
    return World(
        plan,
        [*train, *test],
        encoder,
        s,
        np.concatenate([recaptured, s[len(train) :]]),
        rows_of(of_label(train, 0), [*train, *test]),
        rows_of(free, [*train, *test]),
        rows_of(test, [*train, *test]),
    )


def train_base(world: World, known: Rows, data: Path, kept_at: Path | None) -> Base:
    """Train the normals-only model on some of the normals, by the same code that `aeflow train` runs."""
    if kept_at is not None and (kept_at / "run" / "model.json").exists():
        return base_of(world, known, load_run(kept_at / "run"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = kept_at or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "images").symlink_to(data.resolve())
        rows = [f"images/{world.records[row].name},train,0,{world.records[row].patient}" for row in known]
        (folder / "manifest.csv").write_text("\n".join(["path,split,label,patient", *rows]) + "\n")
        model = training.train(folder, folder / "run", world.plan.trained).artifact
    return base_of(world, known, model)


def base_of(world: World, known: Rows, model: Artifact) -> Base:
    """Return a model that was trained on the known normals as a base."""
    settings = world.plan.learnt
    kept, held = hold_out([world.records[row] for row in known], settings.held_out, settings.seed)
    scales = {name: scale for name, scale in model.calibration.term_scales.items() if name in settings.chosen_terms}
    found: dict[int, dict[str, Floats]] = {}

    def measures(rows: Rows) -> dict[str, Floats]:
        missing = [int(row) for row in rows if int(row) not in found]
        records = [world.records[i] for i in missing]
        for row, (_, m) in zip(missing, measure(TorchBackend(model.net), records), strict=True):
            if isinstance(m, ImageError):
                raise m
            found[row] = m.measures
        return {name: np.stack([found[int(row)][name] for row in rows]) for name in model.settings.chosen_terms}

    calibration = replace(model.calibration, term_scales=scales)
    return Base(model.net, rows_of(kept, world.records), rows_of(held, world.records), measures, calibration)


def labels_for(world: World, base: Base, labelled: Rows, pool: Rows) -> tuple[Rows, NDArray[np.int64], list[str]]:
    """Return the rows to learn from, their labels (0 normal, 1 and up a kind, -1 unlabelled), and the kinds."""
    names = [world.records[row].kind or "abnormal" for row in labelled]
    kinds = sorted(set(names)) or ["abnormal"]
    rows = np.concatenate([base.kept, labelled, pool]).astype(int)
    label = np.array([0] * len(base.kept) + [1 + kinds.index(name) for name in names] + [-1] * len(pool))
    return rows, label, kinds


@dataclass(frozen=True, slots=True)
class Lesson:
    """Classes that were learnt from labels and a pool, and the images that are, or look, abnormal among them."""

    learnt: MixtureFit | None
    found: Pool | None
    chosen: Rows  # in the world
    judged: Floats  # of the chosen, by models without them
    abnormal: Floats  # probability of each of the chosen


def teach(world: World, base: Base, labelled: Rows, pool: Rows, s: Floats | None = None) -> Lesson:
    """Learn classes from labels and a pool."""
    s = world.s if s is None else s
    recaptured = s + world.recaptured - world.s  # the change by another capture, from wherever the image was taken
    rows, label, kinds = labels_for(world, base, labelled, pool)
    examples = Examples(s[rows], recaptured[rows], label, [world.records[row].patient for row in rows])
    learnt, found = fit_class_mixture(examples, kinds, world.plan.learnt) if label.any() else (None, None)
    if learnt is None:
        return Lesson(None, found, rows[:0], np.zeros(0), np.zeros(0))
    chosen = learnt.likely_abnormal()
    return Lesson(learnt, found, rows[chosen], learnt.judged[chosen], learnt.abnormal[chosen])


def scores_after(world: World, base: Base, lesson: Lesson, rows: Rows) -> tuple[Floats, float]:
    """Return the scores of some rows with the classes in them, and the weight of the classes."""
    learnt, found = lesson.learnt, lesson.found
    if learnt is None:
        return base.score(rows), 0.0

    def ratios(of: Rows) -> Floats:
        with torch.no_grad():
            u = learnt.mixture.latent_of(torch.from_numpy(world.s[of]).float())
            return learnt.mixture.log_ratios(u).double().numpy()

    share = found.share if found is not None and found.used else 0.5
    abnormal = base.score(lesson.chosen), lesson.judged, lesson.abnormal
    fitted = fit_posterior(learnt.kinds, (base.score(base.held), ratios(base.held)), abnormal, share)
    return fitted.value(base.score(rows), fitted.term(ratios(rows))), fitted.weight


def learn(
    world: World, base: Base, labelled: Rows, pool: Rows, s: Floats | None = None
) -> tuple[Floats, Pool | None, float]:
    """Learn classes as `training.train` does; return test scores, findings in the pool, and the posterior's weight."""
    lesson = teach(world, base, labelled, pool, s)
    found = lesson.found
    if found is not None and found.used and not len(labelled):
        found = second_opinion(found, *base.beside_held_out(lesson.chosen), lesson.abnormal)
        if not found.used:
            return base.score(world.test), found, 0.0
    scores, weight = scores_after(world, base, lesson, world.test)
    return scores, found, weight
