"""FlowGMM on vectors: a semi-supervised scikit-learn classifier that is also an exact density.

Izmailov, Kirichenko, Finzi and Wilson, "Semi-Supervised Learning with Normalizing Flows", ICML 2020:
``p(x) = sum_k pi_k N(u(x); m_k, I) |det du/dx|``, Gaussian ``k`` belonging to one class.

| symbol | shape | meaning |
|---|---|---|
| x | (n, D) | a point as the caller has it |
| z | (n, D) | standardised point |
| a | (n, d) | its leading principal directions |
| r | D - d values | the residual of these: ``N(0, residual_variance_ I)``, as in probabilistic PCA |
| v | (n, d) | ``a`` whitened by the covariance that all Gaussians share |
| u | (n, d) | ``flow(v)``, the latent |

A flow trained from a random start with few labels depends on its seed. Here ``p`` is first fitted with the identity as
flow: a linear-Gaussian model whose fit by EM has no randomness. Coupling steps start at that identity and are kept only
if they help on held-out points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Self
from warnings import warn

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import svd
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import nn

from aeflow.errors import NumericalError
from aeflow.flowgmm.linear_gaussian import MIN_VARIANCE, fit_linear, whiten
from aeflow.flowgmm.vector_flow import FlowMixture
from aeflow.model.priors.standard_normal import LOG_2PI

Array = NDArray[Any]

BATCH = 256
FOLDS = 5
# Training steps between two looks at the held-out points, and looks without a gain before training ends.
LOOK_EVERY = 20
PATIENCE = 10


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: handing out the work of networks this small takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class FlowGMM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier and density by one joint likelihood of labelled and unlabelled points; label -1 means unlabelled.

    Maximises ``sum_labelled log p(x, y) + sum_unlabelled log p(x)`` (Izmailov et al. 2020, section 3.1) and predicts by
    Bayes' rule. In the linear start the unlabelled points count less: one Gaussian a class is wrong in its shape, and
    thousands of them would outvote the labels.

    | setting | meaning |
    |---|---|
    | n_components | Gaussians of each class |
    | n_directions | most principal directions that the mixture and the flow see; the rest is Gaussian noise |
    | shrinkage | pull of the shared covariance towards a multiple of the identity, 0 to 1 |
    | unlabelled_weight | weight of all unlabelled points together in the linear start; all labelled ones have 1 |
    | flow_steps, hidden | coupling steps (0: linear-Gaussian) and the width of their networks |
    | max_steps, learning_rate | Adam's longest training and its step size |
    | random_state | seed of the flow's start, of the held-out points and of `sample` |

    After `fit`: `classes_`, `n_features_in_`, `scaler_`, `directions_` (D, d), `residual_variance_`, `root_` (d, d) of
    the shared covariance, `mixture_` (flow and Gaussians), `component_class_` (K,), and `trained_steps_`: the number of
    steps that the flow was trained for, 0 if the linear start was kept. `y` of only -1 and 1 is read as two classes,
    with a warning.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_directions": [Interval(Integral, 1, None, closed="left")],
        "shrinkage": [Interval(Real, 0, 1, closed="both")],
        "unlabelled_weight": [Interval(Real, 0, None, closed="left")],
        "flow_steps": [Interval(Integral, 0, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "max_steps": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        n_directions: int = 128,
        shrinkage: float = 0.3,
        unlabelled_weight: float = 1.0,
        flow_steps: int = 6,
        hidden: int = 64,
        max_steps: int = 2000,
        learning_rate: float = 3e-3,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_directions = n_directions
        self.shrinkage = shrinkage
        self.unlabelled_weight = unlabelled_weight
        self.flow_steps = flow_steps
        self.hidden = hidden
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from ``X`` (n, D) and labels ``y`` (n,), -1 where unlabelled; ValueError for bad input."""
        x, labels = validate_data(self, X, y, dtype=np.float64)
        index = self._read_labels(labels)
        order = np.lexsort((index, *x.T))  # makes the result independent of the order of the rows
        x, index = x[order], index[order]
        random = check_random_state(self.random_state)

        self.scaler_ = StandardScaler().fit(x)
        z = self.scaler_.transform(x)
        _, singular, basis = svd(z, full_matrices=False)
        variance = np.square(singular) / len(z)
        size = max(1, min(self.n_directions, int((variance > MIN_VARIANCE).sum())))
        self.directions_ = basis[:size].T
        self.residual_variance_ = max(float(variance[size:].sum()) / max(x.shape[1] - size, 1), MIN_VARIANCE)
        a = z @ self.directions_

        self.component_class_ = np.arange(len(self.classes_)).repeat(self.n_components)
        seed = int(random.randint(2**31 - 1))
        fold = self._folds(index, random)
        can_train = self.flow_steps > 0 and size > 1 and fold.max() >= 0
        with one_thread():
            self.trained_steps_ = self._choose_steps(a, index, fold, seed) if can_train else 0
            self.root_, self.mixture_ = self._start(a, index, seed)
            for done in self._train(self.mixture_, whiten(a, self.root_), index, seed):
                if done == self.trained_steps_:
                    break
        return self

    @staticmethod
    def _is_labelled(y: Array) -> Array:
        """Return which labels (n,) are none of -1."""
        # In an array of objects -1 may be a number or, as in a column that was read as text, its name.
        named = y.dtype.kind in "OU"
        return np.array([label != -1 and str(label) != "-1" for label in y]) if named else np.asarray(y != -1)

    def _read_labels(self, y: Array) -> Array:
        """Set ``classes_`` and return the class index of each label, -1 where unlabelled."""
        labelled = self._is_labelled(y)
        if y.dtype.kind in "iuf" and set(y.tolist()) == {-1, 1}:
            warn("y holds only -1 and 1: read as two classes; if -1 means unlabelled, rename class 1", stacklevel=4)
            labelled[:] = True
        if not labelled.any():
            raise ValueError("y holds no label: every entry is -1, which means unlabelled; label at least one point")
        known = np.asarray(y[labelled].tolist()) if y.dtype == object else y[labelled]
        check_classification_targets(known)
        index = np.full(len(y), -1)
        self.classes_, index[labelled] = np.unique(known, return_inverse=True)
        return index

    def _weights(self, index: Array) -> Array:
        """Return each point's weight, with mean 1: the labelled ones 1 together, the others ``unlabelled_weight``."""
        labelled = index >= 0
        ratio = self.unlabelled_weight * labelled.sum() / max((~labelled).sum(), 1)
        weights = np.where(labelled, 1.0, ratio)
        return np.asarray(weights / weights.mean())

    def _allowed(self, index: Array) -> Array:
        """Return the Gaussians (n, K) that may have made each point: those of its class, or all."""
        return np.asarray((index[:, None] == self.component_class_) | (index[:, None] < 0))

    @staticmethod
    def _folds(index: Array, random: np.random.RandomState) -> Array:
        """Return the fold (n,) that holds each point out, classes spread evenly; -1 in classes with too few points."""
        fold, key = np.full(len(index), -1), random.random_sample(len(index))
        for label in np.unique(index):
            rows = np.flatnonzero(index == label)
            if len(rows) >= FOLDS:
                fold[rows[np.argsort(key[rows])]] = np.arange(len(rows)) % FOLDS
        return fold

    def _start(self, a: Array, index: Array, seed: int) -> tuple[Array, FlowMixture]:
        """Return the linear-Gaussian solution on ``a``: root of its covariance, and mixture with an identity flow."""
        weights, classes = self._weights(index), np.arange(len(self.classes_))
        known = index[:, None] == classes
        means, root, log_weights = fit_linear(a, known | (index[:, None] < 0), known * 1.0, weights, self.shrinkage)
        if self.n_components > 1:
            v, m = whiten(a, root), whiten(means, root)
            owner = np.where(index < 0, (v @ m.T - 0.5 * np.square(m).sum(1) + log_weights).argmax(1), index)
            split = np.zeros((len(a), len(self.component_class_)))
            for label in classes:
                rows = np.flatnonzero(owner == label)
                if len(rows) < self.n_components:
                    found = f"class {self.classes_[label]} has {len(rows)} points"
                    raise ValueError(f"n_components={self.n_components}: {found}; ask for fewer Gaussians a class")
                part = KMeans(self.n_components, n_init=4, random_state=seed).fit_predict(v[rows])
                split[rows, label * self.n_components + part] = 1.0
            means, root, log_weights = fit_linear(a, self._allowed(index), split, weights, self.shrinkage)
        steps = self.flow_steps if a.shape[1] > 1 else 0  # a coupling needs two halves
        return root, FlowMixture(whiten(means, root), log_weights, steps, self.hidden, seed)

    def _train(self, mixture: FlowMixture, v: Array, index: Array, seed: int) -> Iterator[int]:
        """Train ``mixture`` on ``v`` (n, d); yield the number of steps done, at 0 and at every look."""
        points, allowed = torch.from_numpy(v), torch.from_numpy(self._allowed(index))
        optimizer = torch.optim.Adam(mixture.parameters(), lr=self.learning_rate, fused=True)
        generator = torch.Generator().manual_seed(seed)
        yield 0
        for done in range(1, self.max_steps + 1):
            batch = torch.randperm(len(points), generator=generator)[:BATCH]
            joint = mixture(points[batch]).masked_fill(~allowed[batch], -torch.inf)
            loss = -joint.logsumexp(1).mean() / points.shape[1]
            if not torch.isfinite(loss):
                raise NumericalError(f"flow, step {done}", f"the loss is {float(loss)}", "lower learning_rate")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(mixture.parameters(), 1.0)
            optimizer.step()
            if done % LOOK_EVERY == 0:
                yield done

    def _watch(self, a: Array, index: Array, held: Array, seed: int) -> Iterator[tuple[float, float]]:
        """Train without the points ``held``; yield their joint likelihood and that of their labels, at every look."""
        root, mixture = self._start(a[~held], index[~held], seed)
        v, allowed = torch.from_numpy(whiten(a[held], root)), torch.from_numpy(self._allowed(index[held]))
        for _ in self._train(mixture, whiten(a[~held], root), index[~held], seed):
            with torch.no_grad():
                joint = mixture(v)
            seen = joint.masked_fill(~allowed, -torch.inf).logsumexp(1)
            yield float(seen.sum()), float((seen - joint.logsumexp(1)).sum())

    def _choose_steps(self, a: Array, index: Array, fold: Array, seed: int) -> int:
        """Return the training steps with the best joint likelihood of held-out points; 0 if their labels suffer.

        The likelihood of a point has d terms, that of its label one: without the second condition a flow that fits the
        shape of the data better would be kept although it moves the border between the classes the wrong way.
        """
        best, best_value, first_label = 0, -math.inf, -math.inf
        folds = [self._watch(a, index, fold == k, seed) for k in range(FOLDS)]
        for look, parts in enumerate(zip(*folds, strict=True)):
            value, label = np.sum(parts, axis=0)
            first_label = label if look == 0 else first_label
            if value > best_value and label >= first_label:
                best, best_value = look, value
            if look - best >= PATIENCE:
                break
        return best * LOOK_EVERY

    def _reduce(self, X: ArrayLike) -> tuple[Array, Array]:
        """Return whitened directions ``v`` (n, d) of points, and the part of ``log p(x)`` (n,) that all k share."""
        check_is_fitted(self)
        z = self.scaler_.transform(validate_data(self, X, dtype=np.float64, reset=False))
        a = z @ self.directions_
        rest = z.shape[1] - a.shape[1]
        residual = np.square(z - a @ self.directions_.T).sum(1) / self.residual_variance_
        log_noise = -0.5 * (residual + rest * (LOG_2PI + math.log(self.residual_variance_))) if rest else 0.0 * residual
        return whiten(a, self.root_), log_noise - np.log(np.diag(self.root_)).sum() - np.log(self.scaler_.scale_).sum()

    def predict_joint_log_proba(self, X: ArrayLike) -> Array:
        """Return ``log p(x, y)`` in nats for points ``X`` (n, D) and every class, (n, classes)."""
        v, common = self._reduce(X)
        with torch.no_grad():
            joint = self.mixture_(torch.from_numpy(v)).numpy() + common[:, None]
        return np.asarray(logsumexp(joint.reshape(len(v), len(self.classes_), -1), axis=2))

    def score_samples(self, X: ArrayLike) -> Array:
        """Return ``log p(x)`` in nats of points ``X`` (n, D), (n,), as a density over the space of ``X`` itself."""
        return np.asarray(logsumexp(self.predict_joint_log_proba(X), axis=1))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return ``p(y | x)`` for points ``X`` (n, D), (n, classes) in the order of ``classes_``."""
        return np.asarray(softmax(self.predict_joint_log_proba(X), axis=1))

    def predict(self, X: ArrayLike) -> Array:
        """Return the most probable class of each point ``X`` (n, D), (n,)."""
        best = self.predict_joint_log_proba(X).argmax(1)
        return np.asarray(self.classes_[best])

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on the labelled points of ``X`` (n, D); those of label -1 are left out, as in ``fit``.

        ``cross_val_score`` calls it; with ``scoring=`` scikit-learn's own measures count -1 as a class. ValueError if
        no point is labelled.
        """
        labels = column_or_1d(y)
        check_is_fitted(self)
        of_two = self.classes_.dtype.kind in "iuf" and -1 in self.classes_  # as ``fit`` read -1 and 1
        known = np.ones(len(labels), bool) if of_two else self._is_labelled(labels)
        if not known.any():
            raise ValueError("y holds no label: every entry is -1, which means unlabelled; there is nothing to score")
        points, weights = np.asarray(X)[known], None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(super().score(points, labels[known], weights))

    def sample(self, n: int = 1, y: object = None) -> tuple[Array, Array]:
        """Draw ``n`` points (n, D) from the density, or from class ``y`` alone; return them and their classes (n,).

        Raises ValueError if ``n`` is below 1 or ``y`` is no class of the training data.
        """
        check_is_fitted(self)
        if n < 1:
            raise ValueError(f"n={n}: ask for at least one sample")
        random = check_random_state(self.random_state)
        probability = softmax(self.mixture_.prior.logits.detach().numpy())
        if y is not None:
            of_class = (self.classes_ == y)[self.component_class_]
            if not of_class.any():
                raise ValueError(f"y={y!r} is no class; the classes are {self.classes_.tolist()}")
            probability = probability * of_class / probability[of_class].sum()
        component = random.choice(len(probability), size=n, p=probability)
        means = self.mixture_.prior.means.detach()
        u = means[torch.from_numpy(component)] + torch.from_numpy(random.standard_normal((n, means.shape[1])))
        with torch.no_grad():
            a = self.mixture_.inverse(u).numpy() @ self.root_.T
        noise = math.sqrt(self.residual_variance_) * random.standard_normal((n, self.n_features_in_))
        z = a @ self.directions_.T + noise - noise @ self.directions_ @ self.directions_.T
        return np.asarray(self.scaler_.inverse_transform(z)), self.classes_[self.component_class_[component]]
