"""The documentation builds without a complaint, needs no network, and names only commands and options that exist."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

from aeflow.cli import app
from aeflow.config import Settings
from helpers.command import within

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^\$? ?aeflow ([^#\n|]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    source = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": source, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def commands(command: Any = None, name: str = "") -> dict[str, Any]:
    """Every command by its words."""
    command = typer.main.get_command(app) if command is None else command
    if not hasattr(command, "commands"):
        return {name: command}
    found: dict[str, Any] = {}
    for word, inner in command.commands.items():
        found |= commands(inner, f"{name} {word}".strip())
    return found


class Fetched(HTMLParser):
    """What a browser fetches of a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if source := given.get("src") or (given.get("href") if tag == "link" else None):
            self.found.append(source)


def fetched(page: str) -> list[str]:
    reader = Fetched()
    reader.feed(page)
    return reader.found


def test_no_page_fetches_anything_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 12
    for page in pages:
        sources = fetched(page.read_text())
        assert sources
        assert not [one for one in sources if re.match(r"\w+:|//", one) and not one.startswith("data:")], page
    styles = [style.read_text() for style in site.rglob("*.css")]
    assert not any(re.search(r"(url\(|@import )['\"]?(https?:)?//", style) for style in styles)


def test_every_command_and_option_has_its_place(site):
    page = (site / "cli.html").read_text()
    for name, command in commands().items():
        assert f">aeflow {name}<" in page
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or f"<code>{parameter.opts[0]}</code>" in page


def test_every_setting_has_its_place(site):
    page = (site / "settings.html").read_text()
    for name in Settings.model_fields:
        assert f"<td><code>{name}</code></td>" in page
    assert "one flow for each" in page


def test_equations_are_drawn_and_say_what_they_are(site):
    page = (site / "how_it_works.html").read_text()
    assert page.count('<div class="equation">') >= 9
    assert 'aria-label="u = h(z)"' in page
    assert "arithmatex" not in page
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_an_equation_stands_on_the_baseline_of_its_line(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    svg = importlib.import_module("equations").svg

    def depth(tex: str) -> float:
        return float(re.search(r"vertical-align: (-?[\d.]+)em", svg(tex))[1])

    assert depth("x") == pytest.approx(0, abs=0.02)
    assert depth("x_i") < -0.1
    assert depth(r"\dfrac{a}{b}") < depth(r"\frac{a}{b}") < -0.3
    assert "a &lt; b" in svg("a < b")
    with pytest.raises(ValueError, match="Unknown symbol"):
        svg(r"\nothing")


def test_the_api_shows_docstrings(site):
    page = (site / "api.html").read_text()
    assert "Score one image, maps included" in page
    assert "Error of a data folder or manifest that cannot be used as asked." in page


def test_results_are_on_the_site(site):
    assert "results/quality.html" in (site / "quality.html").read_text()
    assert (site / "results" / "quality.json").read_text() == (ROOT / "benchmarks/results/quality.json").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page):
    known = commands()
    for shown in SHOWN.findall("\n".join(BLOCK.findall(page.read_text()))):
        words = shlex.split(shown)
        meant = (" ".join(words[:2]), words[0], f"{words[0]} start")  # `node RUN` is short for `node start RUN`
        name = next((n for n in meant if n in known), None)
        assert name is not None, shown
        options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options, shown


@cache
def sentences() -> str:
    """Return all that the program may say: the texts in its source, one a line, without what is put into them."""
    found = []
    for path in (ROOT / "src" / "aeflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(" ".join(node.value.split()))
    return "\n".join(found)


def stale(printed: str) -> list[str]:
    """Return the parts of printed lines, between their numbers, of three words or more, that the program cannot say."""
    put_in = r"-?[\d.,]+%?|[:;]|left-right| from "  # numbers, an axis, where a threshold comes from
    parts = (part.strip(" ,;.()") for line in printed.splitlines() for part in re.split(put_in, line))
    known = sentences()
    return [part for part in parts if len(part.split()) >= 3 and part not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_of_a_training_is_what_one_says(page):
    shown = [block for block in BLOCK.findall(page.read_text()) if block.startswith(("trained on", "looks for"))]
    shown += re.findall(r"[\d.]+% of new normals are expected .*\)", page.read_text())
    assert not stale("\n".join(shown))
    if page.name == "index.md":
        assert len(shown) > 2
        assert stale("threshold 2.2: 4.9% of normal images lie above on average (rank 57 of 60)")


def test_what_a_page_shows_of_scores_and_metrics_is_what_commands_print(tiny_run, data, tmp_path):
    text = (ROOT / "docs" / "index.md").read_text()
    image = next((data / "test" / "normal").iterdir())
    line, _ = within("score", tiny_run, image)
    form = re.compile(r"(normal  |abnormal)  score +-?\d+\.\d{3}  p[ ≤][01]\.\d{4}  \S+")
    shown = text.partition("$ aeflow score RUN IMAGES\n")[2].partition("```")[0].splitlines()
    assert len(shown) == 2
    assert all(form.fullmatch(one.partition("  (outside")[0]) for one in [*shown, line.rstrip()])
    printed, _ = within("evaluate", tiny_run, data, "--out", tmp_path / "out")
    metrics = re.findall(r"^(\S.*?) +[\d.]{5}  [\d.]{5} to [\d.]{5}$", text, re.MULTILINE)
    assert len(metrics) == 6
    assert all(f"\n{name} " in printed for name in metrics)
    [threshold] = re.findall(r"^threshold .* from held-out .*$", text, re.MULTILINE)
    assert without_numbers(threshold) in without_numbers(" ".join(printed.split()))


def without_numbers(text: str) -> str:
    return re.sub(r"-?\d[\d.]*", "#", text)


def test_a_page_that_fetches_is_noticed():
    page = '<link rel="icon" href="a.png"><a href="https://x.org">x</a><script src="https://x.org/a.js"></script>'
    assert fetched(page) == ["a.png", "https://x.org/a.js"]
