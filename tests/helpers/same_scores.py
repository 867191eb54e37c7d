"""Scores of a scorer, and the differences of two that count as none."""

from __future__ import annotations

import numpy as np
import pytest

from aeflow.scoring.scorer import Score, Scorer, score


def scores(scorer: Scorer, records: list, **options: object) -> list[Score]:
    found = [result for _, result in score(scorer, records, **options)]
    assert all(isinstance(result, Score) for result in found)
    return found


def assert_same_scores(a: list[Score], b: list[Score], scorer: Scorer) -> None:
    """Compare within a thousandth of the held-out normals' standard deviation, and all that is read off a score."""
    spread = float(np.std(scorer.calibration.scores))
    np.testing.assert_allclose([one.value for one in a], [one.value for one in b], atol=1e-3 * spread, rtol=0)
    assert [one.verdict for one in a] == [one.verdict for one in b]
    assert [one.outside for one in a] == [one.outside for one in b]
    for one, other in zip(a, b, strict=True):
        assert one.terms == pytest.approx(other.terms, abs=1e-3)
        assert one.posterior == pytest.approx(other.posterior, abs=1e-3)
        assert one.maps.keys() == other.maps.keys()
        for name, scale in scorer.calibration.maps.items():
            if name in one.maps:
                np.testing.assert_allclose(one.maps[name], other.maps[name], atol=1e-3 * (scale.high - scale.low))
