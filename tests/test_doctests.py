"""The examples in docstrings are true: each runs as it stands."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
FILES = [path for path in sorted(SRC.rglob("*.py")) if ">>> " in path.read_text()]
MODULES = [".".join(path.relative_to(SRC).with_suffix("").parts) for path in FILES]
WITH_EXAMPLES = {  # functions that a reader of the source meets first
    "aeflow.config.make_settings",
    "aeflow.data.splits.hold_out",
    "aeflow.errors.AeflowError",
    "aeflow.metrics.image.auroc",
    "aeflow.metrics.intervals.wilson",
    "aeflow.privacy.pseudonym",
    "aeflow.scoring.studies.simes",
}


def examples(module: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    return [one for one in found if one.examples]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_are_true(module: str) -> None:
    for one in examples(module):
        said: list[str] = []
        result = doctest.DocTestRunner(verbose=False).run(one, out=said.append)
        assert result.failed == 0, "".join(said)


def test_these_have_an_example() -> None:
    modules = {name.rpartition(".")[0] for name in WITH_EXAMPLES}
    assert {one.name for module in modules for one in examples(module)} >= WITH_EXAMPLES


def test_a_false_example_is_noticed() -> None:
    false = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "false", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(false, out=lambda _: None).failed == 1
