"""The files around the code: what runs on every change, what reports ask for, and one version everywhere."""

from __future__ import annotations

import importlib.resources
import tomllib
from pathlib import Path

import pytest
import yaml

import aeflow

ROOT = Path(__file__).parent.parent
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))


def test_every_change_is_tested_on_each_supported_python() -> None:
    [job] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    versions = job["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={versions[0]}"
    assert len(versions) >= 3
    assert any(step.get("run", "").startswith("make test") for step in job["steps"])


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_no_report_asks_for_patient_data(form: Path) -> None:
    fields = yaml.safe_load(form.read_text())["body"]
    assert "No patient data, please" in fields[0]["attributes"]["value"]
    [box] = (option for one in fields if one["type"] == "checkboxes" for option in one["attributes"]["options"])
    assert box["required"]


def test_a_bug_report_asks_for_what_is_needed() -> None:
    fields = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug_report.yml").read_text())["body"]
    assert {"version", "command", "error", "info"} <= {one.get("id") for one in fields}


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == aeflow.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert importlib.resources.files("aeflow").joinpath("py.typed").is_file()


def test_each_dependency_has_its_reason_and_its_tested_version() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    tested = {line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").open()}
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(one for name in extras if name not in ("peers", "store") for one in extras[name]),
    ]
    asked = [one for one in asked if not one.startswith("aeflow[")]  # an extra that brings another
    for requirement in asked:
        lines = [line for line in text.splitlines() if line.strip().startswith(f'"{requirement}"')]
        assert lines
        assert all("#" in line for line in lines), requirement
        assert requirement.partition(">")[0].partition("[")[0].lower() in tested, requirement
