"""Additions to the documentation while it is built: commands, settings, the benchmarks' results, drawn equations.

mkdocs calls the functions named `on_...`; see `hooks` in mkdocs.yml.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from aeflow.cli.settings import all_settings, shown

sys.path.append(str(Path(__file__).parent))
from equations import svg  # not above: mkdocs loads this file from anywhere

ROOT = Path(__file__).parent.parent
RESULTS = "benchmarks/results"
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the commands and the settings, and the results that pages link to."""
    files.append(File.generated(config, "cli.md", content=command_line()))
    files.append(File.generated(config, "settings.md", content=settings()))
    for path in sorted((ROOT / RESULTS).iterdir()):
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links at the results below the pages, where the site has them."""
    return markdown.replace(f"](../{RESULTS}/", "](results/").replace("](../../docs/", "](../")


def on_page_content(text: str, **_: Any) -> str:
    """Replace equations by drawings; see equations.py."""

    def drawn(found: re.Match[str]) -> str:
        return svg(html.unescape(found[2]), display=found[1] == "div")

    return EQUATION.sub(drawn, text)


def command_line() -> str:
    """Return every command with its arguments and options, as Markdown."""
    from aeflow.cli import app

    root = typer.main.get_command(app)
    intro = "# Command line\n\n`aeflow COMMAND --help` says the same. Exit code 0: done; 1: done, but some inputs were "
    intro += "refused, or an audit found something; 2: wrong use, or a broken model.\n"
    return intro + "\n".join(_command(name, command) for name, command in _all("aeflow", root))


def _all(name: str, command: Any) -> list[tuple[str, Any]]:
    if hasattr(command, "commands"):
        return [one for key, inner in command.commands.items() for one in _all(f"{name} {key}", inner)]
    return [(name, command)]


def _command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    words = (f"{one.name.upper()}{'...' if one.nargs == -1 else ''}" for one in arguments)
    usage = " ".join([name, *words, "[OPTIONS]"])
    lines = [f"## {name}", "", command.help or "", "", "```", usage, "```", "", "| | | default |", "|---|---|---|"]
    lines += [_row(f"`{one.name.upper()}`", one) for one in arguments]
    lines += [_row(", ".join(f"`{name}`" for name in one.opts), one) for one in options]
    return "\n".join(lines) + "\n"


def _row(name: str, parameter: Any) -> str:
    kept = parameter.default if isinstance(parameter.default, (str, int, float)) else None
    default = "" if kept is None or isinstance(kept, bool) else f"`{kept}`"
    needed = "required" if parameter.required else default
    text = (parameter.help or "").replace("|", "\\|").replace("{", "&#123;").replace("}", "&#125;")
    return f"| {name} | {text} | {needed} |"


def settings() -> str:
    """Return every setting with its default, its range, its value in the preset paper, and what it is."""
    lines = [
        "# Settings",
        "",
        "Change any with `--set NAME=VALUE`, or as a keyword of `aeflow.train`. `aeflow settings` lists them, too.",
        "They are saved in the model. A dash means that the preset `paper` keeps the default.",
    ]
    section = ""
    for one in all_settings():
        if one.section != section:
            section = one.section
            lines += ["", f"## {section}", "", "| setting | default | range | `paper` | what it is |"]
            lines.append("|---|---|---|---|---|")
        paper = "-" if one.paper is None else f"`{shown(one.paper)}`"
        sentence = one.sentence.replace("|", chr(92) + "|")
        lines.append(f"| `{one.name}` | `{shown(one.default)}` | {one.range} | {paper} | {sentence} |")
    return "\n".join(lines) + "\n"
