"""The study of the shift: a trait that was taken away is found, brought back, and told apart from others."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.shift import image_traits as traits
from helpers.data import texture


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """40 textures over one bright disc, as organs lie in one place."""
    y, x = np.mgrid[:64, :64]
    disc = 0.35 * np.exp(-((y - 36) ** 2 + (x - 28) ** 2) / 200)
    return np.stack([(texture(i) / 400 + disc).clip(0, 1) for i in range(40)]).astype(np.float32)


def test_groups_of_one_source_are_not_told_apart_and_others_are(images):
    patients = [str(i) for i in range(40)]
    rows = traits.histograms(images)
    assert traits.separable(rows[:20], rows[20:], patients).auroc < 0.75
    darker = traits.histograms(0.8 * images)
    assert traits.separable(rows[:20], darker[20:], patients).auroc > 0.95


def test_a_patient_is_in_one_fold():
    """Features that name the patient, and say nothing of the group, tell nothing."""
    rows = np.repeat(np.random.default_rng(0).standard_normal((30, 50)), 2, axis=0)
    patients = [str(i // 2) for i in range(60)]
    assert traits.separable(rows[:30], rows[30:], patients).auroc < 0.8


def test_each_change_brings_its_trait_across(images):
    darker = (0.9 * images**1.4).astype(np.float32)
    bent = traits.towards(darker, images)["tone curve (histogram)"](darker)
    assert np.abs(bent - images).mean() < 0.1 * np.abs(darker - images).mean()

    soft = gaussian_filter(images, (0, 0.8, 0.8))
    back = traits.towards(images, soft)["sharpness (power spectrum)"](images)
    wanted, before, after = (traits.spectra(x).mean(axis=0)[:30] for x in (soft, images, back))
    assert np.abs(after - wanted).mean() < 0.3 * np.abs(before - wanted).mean()

    pictures = [Image.fromarray(x).resize((64, 64), Image.Resampling.BILINEAR, box=(6, 4, 60, 58)) for x in images]
    closer = np.stack([np.asarray(picture) for picture in pictures])
    moved = traits.towards(images, closer)["crop and zoom (average image)"](images)
    assert np.abs(moved - closer).mean() < 0.5 * np.abs(images - closer).mean()


def test_the_control_changes_next_to_nothing(images):
    control = traits.towards(images, images[::-1])["none: resampled by half a pixel"](images)
    assert 0 < np.abs(control - images).mean() < 0.02


def test_rim_and_centre_are_what_they_say(images):
    middle = (slice(None), slice(8, 56), slice(8, 56))
    assert (traits.rim(images)[middle] == images.mean(axis=(1, 2))[:, None, None]).all()
    np.testing.assert_array_equal(traits.rim(images)[:, :8], images[:, :8])
    other = images.copy()
    other[:, :16] = other[:, 48:] = other[:, :, :16] = other[:, :, 48:] = 0
    inner = traits.centre(images)[:, 4:-4, 4:-4]
    np.testing.assert_allclose(traits.centre(other)[:, 4:-4, 4:-4], inner, atol=1e-6)
