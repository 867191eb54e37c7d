"""The command ``aeflow settings``: every setting with its default, its range and a sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from aeflow.cli.options import Json, app
from aeflow.cli.output import print_json
from aeflow.errors import SettingsError, nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo  # a quarter of the time that `aeflow --help` takes

BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}", "max_length": "at most {} values"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as people read it."""

    section: str
    name: str
    default: Any
    paper: Any  # its value in the preset ``paper``; None if that keeps the default
    range: str  # empty if any value of its type will do, or if the sentence says which
    sentence: str


@app.command()
def settings(
    names: Annotated[
        list[str] | None, typer.Argument(help="Settings to show; all by default.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the settings of a training, for --set NAME=VALUE: default, range, and what each is."""
    found = list(all_settings())
    if names:
        wanted = [known(name, [one.name for one in found]) for name in names]
        found = [one for one in found if one.name in wanted]
    if as_json:
        print_json([asdict(one) for one in found])
        return
    from rich.box import SIMPLE
    from rich.table import Table

    from aeflow.runtime.console import Terminal

    table = Table(box=SIMPLE)
    table.add_column("setting", no_wrap=True)
    for name in ("default", "range"):  # narrow: of 80 columns, the sentence gets the rest
        table.add_column(name, overflow="fold", max_width=14)
    table.add_column("what it is")
    for one in found:
        table.add_row(one.name, shown(one.default), one.range, one.sentence)
    Terminal().print(table)


def known(name: str, names: Sequence[str]) -> str:
    """Return the name of a setting as it is spelt here; SettingsError if there is none."""
    spelt = name.replace("-", "_")
    if spelt not in names:
        near = nearest(spelt, names)
        remedy = "aeflow settings lists all" if near is None else f"do you mean {near}? aeflow settings lists all"
        raise SettingsError(name, "no such setting", remedy)
    return spelt


def all_settings() -> Iterator[Setting]:
    """Yield every setting in the order of its source, with the comment beside it."""
    from aeflow import config

    section, fields = "", config.Settings.model_fields
    above = ""
    for line in inspect.getsource(config.Settings).splitlines():
        head, begins, above = re.match(r"    # (\w[^:.]*)", line), not above, line
        if head and begins:
            section = head[1]
        elif (found := re.match(r"    (\w+): .*?(?:  # (.*))?$", line)) and found[1] in fields:
            name, field = found[1], fields[found[1]]
            yield Setting(
                section, name, plain(field.default), plain(config.PAPER.get(name)), range_of(field), found[2] or ""
            )


def range_of(field: FieldInfo) -> str:
    """Return in words which values a field may have.

    >>> from aeflow.config import Settings
    >>> range_of(Settings.model_fields["image_size"]), range_of(Settings.model_fields["coupling"])
    ('from 32 to 2048', 'affine, additive')
    """
    for kind in (field.annotation, *get_args(field.annotation)):  # by itself, or beside None
        if get_origin(kind) is Literal:
            return ", ".join(map(str, get_args(kind)))
    if field.annotation is bool:
        return "true, false"
    words = [
        text.format(getattr(one, kind)) for one in field.metadata for kind, text in BOUNDS.items() if hasattr(one, kind)
    ]
    return " ".join(words)


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def shown(value: Any) -> str:
    """Return a value as ``--set`` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
