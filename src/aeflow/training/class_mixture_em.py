"""Fit of the class mixture by EM: from known normals, a few labels, and a pool of unlabelled images.

The model is ``model.class_mixture.ClassMixture``: ``p(s, k) = pi_k N(s; mu_k, Sigma)`` over pooled features ``s``. Its
joint likelihood, of labelled images under their own component and pool images under all of them, is maximised with
three things that a plain EM lacks here:

- **Consistency.** ``Sigma`` also counts, ``consistency`` times, how far ``s`` moves when an image is recaptured
  (``data.augment.recapture``): what another scanner would change is no sign of disease.
- **Out-of-fold responsibilities.** In 256 directions every pool image looks abnormal to a model that has seen it in
  the pool. Each image is judged by models fitted without it and its patient.
- **An anchored line.** That judgement is one number, ``log p(s | abnormal) - log p(s | normal)``, in standard
  deviations of the known normals. Pool images beyond their Gaussian are fitted by a second one, which is at least
  ``MIN_SEPARATION`` away: a nearer one could be any irregularity of the normals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import expit, log_softmax, logsumexp
from scipy.stats import norm

from aeflow._types import Floats
from aeflow.config import Settings
from aeflow.data.splits import evenly
from aeflow.errors import DataError
from aeflow.model.class_mixture import ClassMixture

FOLDS = 5
REPEATS = 4  # partitions into folds, over which a judgement is averaged
ROUNDS = 3  # of EM; more only confirm the first ones
MIN_SEPARATION = 2.0  # of abnormal from normal, in standard deviations of the known normals
KIND_PRIOR = 10.0  # images that the mean of all abnormal ones counts in the mean of each kind
MIN_APART = 3.0  # in units of ``_apart``; nearer images found in a pool may only be of another scanner
MAX_SHARE = 0.9  # of the pool; with more, the images differ, not the patients
MAX_LIKELY = 200  # abnormal images, labelled or found, that are scored to weigh the classes' term or to confirm a pool
TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Examples:
    """Images to learn from, as pooled vectors."""

    s: Floats  # (n, D)
    recaptured: Floats  # (n, D), of each image recaptured
    label: NDArray[np.int64]  # (n,) 0 normal, 1 and up a kind of abnormality, -1 unlabelled
    patient: Sequence[str]

    def where(self, keep: NDArray[np.bool_]) -> Examples:
        """Return some of the examples."""
        patients = [patient for patient, kept in zip(self.patient, keep, strict=True) if kept]
        return Examples(self.s[keep], self.recaptured[keep], self.label[keep], patients)


@dataclass(frozen=True, slots=True)
class Pool:
    """Findings in the unlabelled images."""

    images: int
    share: float  # of abnormal images in the pool
    gain: float  # nats by which that share explains them better than none
    used: bool
    finding: str  # a sentence


@dataclass(frozen=True, slots=True)
class MixtureFit:
    """A fitted mixture, and the out-of-fold judgements of its examples."""

    mixture: ClassMixture
    kinds: list[str]  # of abnormality, one for each component after the normal one
    judged: Floats = field(repr=False)  # (n,) evidence of each example, out-of-fold, in deviations of known normals
    abnormal: Floats = field(repr=False)  # (n,) probability that each is abnormal; 0 or 1 where labelled or unused

    def likely_abnormal(self) -> list[int]:
        """Return the rows of examples that are, or look, abnormal; of many MAX_LIKELY, evenly drawn."""
        return evenly(np.flatnonzero(self.abnormal > 0.5).tolist(), MAX_LIKELY)


@dataclass(frozen=True, slots=True)
class Line:
    """Two Gaussians on the line: the known normals, and the pool images beyond them."""

    abnormal: Floats  # (n,) probability of each pool image
    share: float
    gain: float


def fit_class_mixture(
    examples: Examples, kinds: Sequence[str], settings: Settings
) -> tuple[MixtureFit | None, Pool | None]:
    """Fit the mixture, and look for abnormal images in the pool; no mixture if neither label nor pool shows any.

    Raises DataError if all images look the same to the encoder, or the known normals are of one patient.
    """
    pool = _screen(examples, len(kinds), settings) if (examples.label < 0).any() else None
    used = (examples.label >= 0) | (pool is not None and pool.used)
    if not (examples.label[used] != 0).any():
        return None, pool
    learnt, apart, _ = _fit(examples, used, kinds, settings)
    if pool is None or not pool.used:
        return learnt, pool
    labelled = bool((examples.label > 0).any())
    if apart < MIN_APART:
        # The pool differs by what a recapture changes: to learn it would be to learn the scanner.
        found = "what sets a part of the unlabelled images apart is what another scanner or export would change"
        pool = replace(pool, used=False, finding=f"{found}: they are not used; give those of one source at a time")
        return (_fit(examples, examples.label >= 0, kinds, settings)[0] if labelled else None), pool
    if labelled:
        # Only now: what labels find in a pool does not show that it is of another scanner.
        learnt, _, share = _fit(examples, used, kinds, settings, labels_first=True)
        pool = pool if share is None else replace(pool, share=share, finding=_finding(share))
    return learnt, pool


def _fit(
    all_examples: Examples,
    used: NDArray[np.bool_],
    kinds: Sequence[str],
    settings: Settings,
    labels_first: bool = False,
) -> tuple[MixtureFit, float, float | None]:
    """Run EM on the examples in use; also return ``_apart`` of the fit, and the pool's abnormal share by labels alone.

    With ``labels_first`` it starts from what the labels alone say of the pool, if they see anything in it; if few of
    the pool are abnormal, the start from the whole pool is mostly wrong.
    """
    examples = all_examples.where(used)
    space = Subspace(examples, settings)
    known, unlabelled = examples.label == 0, examples.label < 0
    counts, responsibility, share = _counts(examples.label, settings), _start(examples.label, len(kinds)), None

    def judge(counts: Floats) -> tuple[Floats, Line, Floats]:
        """Return out-of-fold judgements, the pool on their line, and its responsibilities."""
        judged, ratios = _judge(space, examples, responsibility, counts, settings)
        line = anchored_line(judged[known], judged[unlabelled])
        among = np.exp(log_softmax(ratios[unlabelled], axis=1))
        return judged, line, np.column_stack([1 - line.abnormal, line.abnormal[:, None] * among])

    if labels_first:
        _, line, found = judge(np.where(unlabelled, 0.0, counts))
        if line.gain >= least_gain(int(unlabelled.sum())):
            responsibility[unlabelled], share = found, line.share
    for _ in range(ROUNDS if unlabelled.any() else 1):
        judged, _, responsibility[unlabelled] = judge(counts)
    means, root, log_weights = _components(space.x, responsibility, counts, space, settings)
    by_image = np.zeros((2, len(all_examples.label)))
    by_image[:, used] = judged, 1 - responsibility[:, 0]
    apart = _apart(space, known, means[1:].mean(0) - means[0], settings)
    return MixtureFit(space.mixture(means, root, log_weights), list(kinds), *by_image), apart, share


def _apart(space: Subspace, known: NDArray[np.bool_], difference: Floats, settings: Settings) -> float:
    """Return the separation of abnormal from normal images, in units of the spread that a recapture causes.

    It is measured along Fisher's direction ``S^-1 difference``, with the known normals' shrunk covariance ``S`` that
    does not count recaptures: along that direction, a scanner would be learnt but for this number.
    """
    within = np.cov(space.x[known].T, bias=True).reshape(len(difference), -1)
    shrunk = within + settings.shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    direction = np.linalg.solve(shrunk + TINY * np.eye(len(within)), difference)
    return float(direction @ difference) / max(float(np.sqrt(np.square(space.moved[known] @ direction).mean())), TINY)


class Subspace:
    """Leading directions of standardised vectors, and the change by a recapture in them."""

    def __init__(self, examples: Examples, settings: Settings) -> None:
        self.centre, self.scale = examples.s.mean(0), examples.s.std(0)
        varies = (np.ptp(examples.s, axis=0) > 0) & (self.scale > 1e-6 * self.scale.max())
        if not varies.any():
            raise DataError("train", "all images look the same to the encoder", "give images that differ")
        self.scale = np.where(varies, self.scale, np.inf)  # a constant channel says nothing
        z = (examples.s - self.centre) / self.scale
        variance, basis = np.linalg.eigh(z.T @ z / len(z))
        size = min(settings.directions, int((variance > 1e-6 * variance[-1]).sum()))
        self.directions = basis[:, : -size - 1 : -1]  # (D, d)
        self.x = z @ self.directions
        self.moved = (examples.recaptured - examples.s) / self.scale @ self.directions  # (n, d)
        self.change = self.moved.T @ self.moved / len(self.moved)

    def mixture(self, means: Floats, root: Floats, log_weights: Floats) -> ClassMixture:
        """Return the fitted components as a module."""
        scale = np.where(np.isfinite(self.scale), self.scale, 0.0)
        whitening = solve_triangular(root, self.directions.T / self.scale, lower=True)
        tensors = (
            self.centre,
            whitening,
            scale[:, None] * self.directions @ root,
            solve_triangular(root, means.T, lower=True).T,
            log_weights,
        )
        return ClassMixture(*(torch.from_numpy(np.ascontiguousarray(t)).float() for t in tensors))


def anchored_line(known: Floats, pool: Floats) -> Line:
    """Fit ``(1 - a) N(m0, s0) + a N(m1, s1)`` to the judgements ``pool`` by EM; ``m0, s0`` are those of ``known``.

    It starts from a small, a middle and a large ``a``; the best likelihood wins. An empty pool holds nothing.
    """
    if not len(pool):
        return Line(pool, 0.0, 0.0)
    centre, spread = known.mean(), known.std()
    z = (pool - centre) / max(float(spread), TINY)
    normal = norm.logpdf(z)
    best = Line(np.zeros(len(z)), 0.0, -np.inf)
    for share in (0.03, 0.15, 0.5):
        mean, std = max(float(z[z >= np.quantile(z, 1 - share)].mean()), MIN_SEPARATION), 1.0
        for _ in range(200):
            joint = np.log1p(-share) + normal, np.log(share) + norm.logpdf(z, mean, std)
            abnormal = expit(joint[1] - joint[0])
            mass = max(float(abnormal.sum()), TINY)
            share = float(np.clip(mass / len(z), 1e-4, 0.999))
            mean = max(float(abnormal @ z) / mass, MIN_SEPARATION)
            std = float(np.clip(np.sqrt(abnormal @ np.square(z - mean) / mass), 0.5, 4.0))
        gain = float(np.logaddexp(*joint).sum() - normal.sum())
        if gain > best.gain:
            best = Line(abnormal, share, gain)
    return best


def least_gain(n: int) -> float:
    """Return the nats that a second Gaussian must gain on ``n`` images: ``3/2 log n``, for its three parameters.

    Schwarz 1978. A second Gaussian always gains something.
    """
    return float(1.5 * np.log(n))


def _screen(examples: Examples, kinds: int, settings: Settings) -> Pool:
    """Look for signs of abnormal images in the pool."""
    unlabelled = examples.label < 0
    start, counts = _start(examples.label, kinds), _counts(examples.label, settings)
    judged, _ = _judge(Subspace(examples, settings), examples, start, counts, settings)
    line = anchored_line(judged[examples.label == 0], judged[unlabelled])
    n = int(unlabelled.sum())
    if line.gain < least_gain(n):
        return Pool(n, 0.0, line.gain, False, "no sign of abnormal images in the unlabelled ones: they are not used")
    if line.share > MAX_SHARE:
        found = "hardly any unlabelled image is like the known normals (another scanner, size or export?)"
        return Pool(n, line.share, line.gain, False, f"{found}: they are not used")
    return Pool(n, line.share, line.gain, True, _finding(line.share))


def _finding(share: float) -> str:
    return f"about {share:.0%} of the unlabelled images look abnormal"


def _start(label: NDArray[np.int64], kinds: int) -> Floats:
    """Return responsibilities (n, 1 + kinds) to start from: labels, and the whole pool abnormal.

    A start from the pool's most extreme images never finds the others if abnormal images are common.
    """
    first = np.zeros((len(label), 1 + kinds))
    first[label >= 0, label[label >= 0]] = 1.0
    first[label < 0, 1:] = 1 / kinds
    return first


def _counts(label: NDArray[np.int64], settings: Settings) -> Floats:
    return np.where(label > 0, settings.label_weight, 1.0)


def _judge(
    space: Subspace, examples: Examples, responsibility: Floats, counts: Floats, settings: Settings
) -> tuple[Floats, Floats]:
    """Return evidence (n,) and log-ratios of each kind (n, K - 1) by models fitted without an image and its patient.

    In standard deviations of the known normals that were left out along with it.
    """
    known = examples.label == 0
    judged, ratios = np.zeros(len(space.x)), np.zeros((len(space.x), responsibility.shape[1] - 1))
    times = np.zeros(len(space.x))
    for repeat in range(REPEATS):
        fold = _folds(examples, repeat)
        for out in (fold == k for k in range(FOLDS)):
            if not (known & out).any():
                continue
            if not (known & ~out).any():
                found = "the normal images are of too few patients to judge any without its patient"
                raise DataError("train/normal", found, "add other patients, or name them in manifest.csv")
            means, root, log_weights = _components(space.x[~out], responsibility[~out], counts[~out], space, settings)
            u = solve_triangular(root, space.x[out].T, lower=True).T
            m = solve_triangular(root, means.T, lower=True).T
            ratio = u @ (m[1:] - m[0]).T - 0.5 * (np.square(m[1:]).sum(1) - np.square(m[0]).sum())
            evidence = logsumexp(ratio + log_softmax(log_weights[1:]), axis=1)
            normal = evidence[known[out]]
            spread = max(float(normal.std()), TINY)
            judged[out] += (evidence - normal.mean()) / spread
            ratios[out] += ratio
            times[out] += 1
    times = times.clip(1)  # a fold without a known normal judges no image: there are few patients
    return judged / times, ratios / times[:, None]


def _folds(examples: Examples, repeat: int) -> NDArray[np.int64]:
    """Return the fold of each image (n,), whole patients each, every label spread evenly."""

    def key(patient: str) -> bytes:
        return hashlib.sha256(f"{repeat}/{patient}".encode("utf-8", "surrogatepass")).digest()

    fold_of: dict[str, int] = {}
    for label in np.unique(examples.label):
        rows = np.flatnonzero(examples.label == label)
        for patient in sorted({examples.patient[int(i)] for i in rows} - fold_of.keys(), key=key):
            fold_of[patient] = len(fold_of) % FOLDS
    return np.array([fold_of[patient] for patient in examples.patient])


def _components(
    x: Floats, responsibility: Floats, counts: Floats, space: Subspace, settings: Settings
) -> tuple[Floats, Floats, Floats]:
    """Return means (K, d), root (d, d) of the shared covariance and log-weights (K,): the M-step.

    A kind with few images borrows from the others; without any abnormal image, all kinds have the normal mean, where
    they say nothing.
    """
    mass = responsibility * counts[:, None]
    share = mass.sum(0)
    sums = mass.T @ x
    normal = sums[0] / share[0]
    abnormal = sums[1:].sum(0) / share[1:].sum() if share[1:].sum() > TINY else normal
    borrowed = KIND_PRIOR * settings.label_weight
    kinds = (sums[1:] + borrowed * abnormal) / (share[1:] + borrowed)[:, None]
    means = np.vstack([normal, kinds])
    cross = means.T @ sums
    within = ((x.T * counts) @ x - cross - cross.T + (means.T * share) @ means) / counts.sum()
    within = within + settings.consistency * space.change
    size = len(within)
    within = (1 - settings.shrinkage) * within + settings.shrinkage * np.trace(within) / size * np.eye(size)
    return means, np.linalg.cholesky(within + TINY * np.eye(size)), np.log(np.maximum(share, TINY) / share.sum())
