"""FlowGMM keeps scikit-learn's contract of an estimator: in a file of its own, since another process may run it."""

from __future__ import annotations

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from aeflow.flowgmm.estimator import FlowGMM


@parametrize_with_checks([FlowGMM(max_steps=20, flow_steps=1, hidden=8)])
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    check(estimator)
