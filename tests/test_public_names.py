"""The names that users import are frozen: one that comes or goes is written here and in the changelog."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import aeflow
import aeflow.flowgmm

ROOT = Path(__file__).parent.parent
NAMES = {
    "aeflow": [
        "AeflowError",
        "ArtifactError",
        "DataError",
        "FlowGMM",
        "ImageError",
        "ImageLimitError",
        "Model",
        "NumericalError",
        "Score",
        "Settings",
        "SettingsError",
        "WeightsError",
        "load",
        "make_settings",
        "train",
    ],
    "aeflow.flowgmm": ["FlowGMM"],
}
# The members that the documented examples use; a class may have more.
MEMBERS = {
    "Model": ["artifact", "evaluate", "explain", "frame", "recalibrate", "sample", "score", "score_all"],
    "Score": ["map", "p_value", "plot", "terms", "threshold", "to_dict", "value", "verdict"],
    "FlowGMM": ["fit", "predict", "predict_proba", "sample", "score", "score_samples"],
    "AeflowError": ["found", "remedy", "where"],
}


@pytest.mark.parametrize("module", [aeflow, aeflow.flowgmm], ids=lambda module: module.__name__)
def test_the_public_names_are_these(module) -> None:
    assert sorted(module.__all__) == NAMES[module.__name__]
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
        assert inspect.getdoc(getattr(module, name))


def test_a_type_checker_sees_what_is_loaded_late() -> None:
    tree = ast.parse((ROOT / "src" / "aeflow" / "__init__.py").read_text())
    [block] = (one for one in tree.body if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING")
    declared = {alias.name: one.module for one in block.body if isinstance(one, ast.ImportFrom) for alias in one.names}
    assert declared == {name: f"aeflow.{home}" for name, home in aeflow._HOME.items()}
    assert sorted(declared) == NAMES["aeflow"]


def test_flowgmm_is_one_class() -> None:
    assert aeflow.FlowGMM is aeflow.flowgmm.FlowGMM


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'aeflow' has no attribute 'predict'"):
        _ = aeflow.predict


@pytest.mark.parametrize("name", MEMBERS)
def test_the_members_that_users_call_are_there(name: str) -> None:
    given = getattr(aeflow, name)
    known = {*dir(given), *getattr(given, "__annotations__", {})}
    if name == "AeflowError":
        known |= set(vars(given("somewhere", "nothing", "look again")))
    assert set(MEMBERS[name]) <= known
