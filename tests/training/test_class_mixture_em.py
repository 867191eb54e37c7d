"""Learning classes from labels and a pool: what must not matter does not, and what is said of unseen images is so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from aeflow.config import make_settings
from aeflow.errors import DataError
from aeflow.metrics.image import auroc
from aeflow.training.class_mixture_em import (
    FOLDS,
    Examples,
    MixtureFit,
    Pool,
    _folds,
    anchored_line,
    fit_class_mixture,
    least_gain,
)

D, GAP = 20, 4.0
SETTINGS = make_settings(labels=5)
# Latent axes -> channels of unlike scale and correlation, as an encoder's are.
CHANNELS = np.linalg.qr(np.random.default_rng(99).standard_normal((D, D)))[0] * np.linspace(0.5, 2, D)


def examples(
    known: int = 200, labelled: tuple[int, ...] = (), pool: int = 0, share: float = 0.0, seed: int = 0, **way: Any
) -> tuple[Examples, np.ndarray]:
    """Gaussian images and their true classes: kind k lies ``GAP`` standard deviations off along axis k - 1.

    The whole pool lies ``shift`` off along the last axis; capturing anew moves axis i by ``recapture[i]``.
    """
    rng = np.random.default_rng(seed)
    kinds = [1 + kind for kind, count in enumerate(labelled) for _ in range(count)]
    label = np.array([0] * known + kinds + [-1] * pool)
    truth = np.where(label < 0, np.arange(len(label)) >= len(label) - round(share * pool), label)
    x = rng.standard_normal((len(label), D))
    for kind in range(1, 1 + max(1, len(labelled))):
        x[truth == kind, kind - 1] += GAP
    x[label < 0, -1] += way.get("shift", 0.0)
    moved = rng.standard_normal(x.shape) * np.r_[way.get("recapture", (0.1, 0.1)), np.full(D - 2, 0.1)]
    return Examples(x @ CHANNELS, (x + moved) @ CHANNELS, label, [f"p{i}" for i in range(len(label))]), truth


def learn(given: Examples, kinds: int = 1, **changes: Any) -> tuple[MixtureFit | None, Pool | None]:
    return fit_class_mixture(given, [f"kind {k}" for k in range(kinds)], SETTINGS.model_copy(update=changes))


def latent(learnt: MixtureFit, s: np.ndarray) -> torch.Tensor:
    return learnt.mixture.latent_of(torch.from_numpy(s).float())


def evidence(learnt: MixtureFit, s: np.ndarray) -> np.ndarray:
    return learnt.mixture.evidence(latent(learnt, s)).numpy()


def reordered(given: Examples, order: np.ndarray) -> Examples:
    return Examples(given.s[order], given.recaptured[order], given.label[order], [given.patient[i] for i in order])


def test_order_of_the_images_does_not_matter() -> None:
    given, _ = examples(labelled=(10, 8), pool=60, share=0.4)
    order = np.random.default_rng(1).permutation(len(given.label))
    (a, pool), (b, pool_b) = learn(given, 2), learn(reordered(given, order), 2)
    assert (pool.used, pool_b.used, pool_b.share) == (True, True, pytest.approx(pool.share))
    np.testing.assert_allclose(b.judged, a.judged[order], atol=1e-6)
    np.testing.assert_allclose(b.abnormal, a.abnormal[order], atol=1e-6)
    np.testing.assert_allclose(evidence(b, given.s), evidence(a, given.s), rtol=1e-3, atol=1e-3)


def test_units_and_constant_channels_do_not_matter() -> None:
    given, _ = examples(labelled=(10,))
    rng = np.random.default_rng(2)
    unit, origin = np.exp(rng.standard_normal(D)), rng.standard_normal(D)

    def changed(s: np.ndarray) -> np.ndarray:
        return np.hstack([np.full((len(s), 2), 0.3), s * unit + origin])

    again = Examples(changed(given.s), changed(given.recaptured), given.label, given.patient)
    (a, _), (b, _) = learn(given), learn(again)
    np.testing.assert_allclose(b.judged, a.judged, atol=1e-6)
    np.testing.assert_allclose(evidence(b, again.s), evidence(a, given.s), rtol=1e-3, atol=1e-3)
    other = again.s + np.r_[5, -5, np.zeros(D)]  # what never varied says nothing in a new image, either
    np.testing.assert_allclose(evidence(b, other), evidence(b, again.s), atol=1e-4)


def test_mixture_goes_back_to_where_it_came_from() -> None:
    mixture = learn(examples(labelled=(10,))[0], directions=8)[0].mixture
    assert mixture.whitening.shape == (8, D)
    torch.testing.assert_close(mixture.whitening @ mixture.back, torch.eye(8), atol=1e-5, rtol=0)


def test_labels_alone_tell_the_classes_apart() -> None:
    given, truth = examples(labelled=(20,))
    learnt, pool = learn(given)
    assert pool is None
    assert auroc(learnt.judged, truth) > 0.97
    np.testing.assert_array_equal(learnt.abnormal, truth)
    fresh, truth = examples(labelled=(200,), seed=1)
    assert auroc(evidence(learnt, fresh.s), truth) > 0.97


def test_judgements_are_honest_where_labels_mean_nothing() -> None:
    """Normals labelled abnormal are told apart by the mixture that saw them, but not out-of-fold."""
    judged, seen = [], []
    for seed in range(5):
        given, _ = examples(seed=seed)
        label = np.random.default_rng(seed).permutation(200) // 180
        learnt, _ = learn(replace(given, label=label))
        judged.append(auroc(learnt.judged, label))
        seen.append(auroc(evidence(learnt, given.s), label))
    assert np.mean(judged) == pytest.approx(0.5, abs=0.1)
    assert np.mean(seen) > 0.75


@pytest.mark.parametrize(("labelled", "share"), [((), 0.1), ((), 0.5), ((10,), 0.1), ((10,), 0.3)])
def test_share_of_the_pool_is_found(labelled: tuple[int, ...], share: float) -> None:
    """On average; a single pool may be off by more."""
    shares, found = [], []
    for seed in range(5):
        given, truth = examples(300, labelled, 500, share, seed=seed)
        learnt, pool = learn(given)
        assert (pool.used, pool.images) == (True, 500)
        assert f"about {pool.share:.0%} of the unlabelled images" in pool.finding
        shares.append(pool.share)
        found.append(auroc(learnt.judged[-500:], truth[-500:]))
    assert np.mean(shares) == pytest.approx(share, abs=0.05)
    assert np.mean(found) > 0.95


def test_labels_say_how_much_of_a_pool_is_abnormal() -> None:
    """From the labels' own judgement, not from the pool as a whole, most of which is normal."""
    shares, found = [], []
    for seed in range(5):
        given, _ = examples(300, (5,), 500, 0.08, seed=seed)
        learnt, pool = learn(given)
        assert pool.used
        shares.append(pool.share)
        fresh, sick = examples(labelled=(200,), seed=100 + seed)
        alone, _ = learn(given.where(given.label >= 0))
        found.append([auroc(evidence(one, fresh.s), sick) for one in (learnt, alone)])
    assert np.mean(shares) == pytest.approx(0.08, abs=0.03)
    assert np.mean(found, axis=0)[0] > np.mean(found, axis=0)[1]


@pytest.mark.parametrize("seed", range(3))
def test_pool_of_normals_is_not_used(seed: int) -> None:
    without, pool = learn(examples(pool=100, seed=seed)[0])
    assert (without, pool.used, pool.share) == (None, False, 0.0)
    assert "no sign of abnormal images" in pool.finding
    given, _ = examples(labelled=(10,), pool=100, seed=seed)
    with_pool, pool = learn(given)
    labels_only, _ = learn(given.where(given.label >= 0))
    assert not pool.used
    for name, value in labels_only.mixture.state_dict().items():
        assert torch.equal(value, with_pool.mixture.state_dict()[name])
    np.testing.assert_array_equal(with_pool.judged, np.append(labels_only.judged, np.zeros(100)))
    assert (with_pool.abnormal[-100:] == 0).all()


@pytest.mark.parametrize("labelled", [(), (10,)])
def test_pool_of_another_scanner_is_not_used(labelled: tuple[int, ...]) -> None:
    learnt, pool = learn(examples(labelled=labelled, pool=100, shift=6)[0])
    assert (pool.used, pool.share > 0.9) == (False, True)
    assert "another scanner" in pool.finding
    assert (learnt is None) == (not labelled)


@pytest.mark.parametrize(("labelled", "share"), [((), 0.0), ((10,), 0.0), ((), 0.2)])
def test_pool_with_a_part_from_another_scanner_is_not_used(labelled: tuple[int, ...], share: float) -> None:
    """A third of the pool lies off along the axis that capturing anew moves, and nothing of it is learnt."""
    given, _ = examples(labelled=labelled, pool=300, share=share, recapture=(0.1, 4.0))
    moved = np.zeros((len(given.label), D))
    moved[-300::3, 1] = 10.0
    given = replace(given, s=given.s + moved @ CHANNELS, recaptured=given.recaptured + moved @ CHANNELS)
    learnt, pool = learn(given)
    assert not pool.used
    assert "another scanner or export would change" in pool.finding
    assert (learnt is None) == (not labelled)
    if labelled:
        alone, _ = learn(given.where(given.label >= 0))
        for name, value in alone.mixture.state_dict().items():
            assert torch.equal(value, learnt.mixture.state_dict()[name])


def test_what_another_capture_changes_counts_less() -> None:
    """Abnormal images differ along two axes alike; the mixture looks less to the one that capturing anew moves."""

    def slopes(recapture: tuple[float, float], **changes: Any) -> np.ndarray:
        given, _ = examples(labelled=(40,), recapture=recapture)
        s = given.s + (given.label == 1)[:, None] * GAP * CHANNELS[1]
        learnt, _ = learn(Examples(s, s + given.recaptured - given.s, given.label, given.patient), **changes)
        return evidence(learnt, CHANNELS[:2]) - evidence(learnt, np.zeros((1, D)))

    still, moved = slopes((0.1, 0.1)), slopes((1.5, 0.1))
    assert still[0] == pytest.approx(still[1], rel=0.3)
    assert moved[0] < 0.5 * min(still[0], moved[1])
    deaf = slopes((1.5, 0.1), consistency=0.0)
    np.testing.assert_allclose(deaf, slopes((0.1, 0.1), consistency=0.0), rtol=1e-3)


def test_two_kinds_are_two_components() -> None:
    learnt, _ = learn(examples(labelled=(20, 20))[0], 2)
    assert len(learnt.mixture.prior.means) == 3
    fresh, truth = examples(labelled=(200, 200), seed=1)
    among = learnt.mixture.log_ratios(latent(learnt, fresh.s)).softmax(dim=1).numpy()
    assert among[truth > 0, truth[truth > 0] - 1].mean() > 0.9
    assert auroc(evidence(learnt, fresh.s), truth > 0) > 0.97


def test_kind_with_one_image_borrows_from_the_others() -> None:
    """Its mean is 1/11 its own image and 10/11 the mean of all abnormal ones."""
    given, _ = examples(labelled=(20, 1))
    learnt, _ = learn(given, 2)
    own, abnormal = given.s[given.label == 2], given.s[given.label > 0].mean(0)
    expected = latent(learnt, (own + 10 * abnormal) / 11)
    torch.testing.assert_close(learnt.mixture.prior.means[2:], expected, atol=1e-4, rtol=1e-4)
    assert np.isfinite(learnt.judged).all()


def test_one_label_is_enough_for_a_result() -> None:
    given, _ = examples(labelled=(1,))
    learnt, _ = learn(given)
    torch.testing.assert_close(learnt.mixture.prior.means[1:], latent(learnt, given.s[-1:]), atol=1e-4, rtol=1e-4)
    assert learnt.judged[-1] == pytest.approx(0, abs=1e-3)  # without it nothing is known of abnormal images
    fresh, truth = examples(labelled=(200,), seed=1)
    assert auroc(evidence(learnt, fresh.s), truth) > 0.6


def test_nothing_to_learn_from() -> None:
    assert learn(examples()[0]) == (None, None)
    same = np.ones((205, D)) * np.linspace(0.1, 12, D)
    with pytest.raises(DataError, match="all images look the same to the encoder; give images that differ"):
        learn(replace(examples(labelled=(5,))[0], s=same, recaptured=same))


def test_few_patients() -> None:
    """Three are judged on the scale of many; one cannot be judged by models that never saw it."""
    given, truth = examples(150, (20,))

    def of(patients: int) -> Examples:
        return replace(given, patient=[f"{k}/{i % patients if k == 0 else i}" for i, k in enumerate(given.label)])

    few, many = (learn(of(n))[0].judged[truth == 1].mean() for n in (3, 150))
    assert few == pytest.approx(many, rel=0.2)
    with pytest.raises(DataError, match="of too few patients to judge any without its patient; add other patients"):
        learn(of(1))


def test_no_patient_is_on_both_sides_of_a_fold() -> None:
    """Three images a patient, some with images of several labels; every fold gets its part of every label."""
    patients = [f"p{i % 80}" for i in range(240)]
    given = replace(examples(150, (30,), 60)[0], patient=patients)
    folds = [_folds(given, repeat) for repeat in range(2)]
    for fold in folds:
        assert len({(patient, k) for patient, k in zip(patients, fold, strict=True)}) == 80
        assert set(fold) == set(range(FOLDS))
    assert (folds[0] != folds[1]).any()
    single, _ = examples(103, (7,), 52)
    for label in (-1, 0, 1):
        assert np.ptp(np.bincount(_folds(single, 0)[single.label == label], minlength=FOLDS)) <= 1


def line_data(share: float, n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    abnormal = np.arange(n) < share * n
    return rng.standard_normal(n), rng.standard_normal(n) + GAP * abnormal, abnormal


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_line_recovers_what_was_simulated(share: float) -> None:
    known, pool, abnormal = line_data(share)
    line = anchored_line(known, pool)
    assert line.share == line.abnormal.mean() == pytest.approx(share, abs=0.03)
    assert np.average(pool, weights=line.abnormal) == pytest.approx(GAP, abs=0.3)
    assert auroc(line.abnormal, abnormal) > 0.98
    assert line.gain > least_gain(1000)
    moved = anchored_line(3 * known - 7, 3 * pool - 7)
    np.testing.assert_allclose(moved.abnormal, line.abnormal, atol=1e-9)


def test_line_of_an_empty_pool_is_empty() -> None:
    line = anchored_line(np.arange(5.0), np.zeros(0))
    assert (len(line.abnormal), line.share, line.gain) == (0, 0.0, 0.0)


def test_line_sees_nothing_in_normals() -> None:
    gains = [anchored_line(*line_data(0.0, 200, seed)[:2]).gain for seed in range(20)]
    assert np.mean(np.array(gains) < least_gain(200)) >= 0.95
