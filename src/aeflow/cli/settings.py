"""The command ``aeflow settings``: every setting with its default, its range and a sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from aeflow.cli.options import Json, app
from aeflow.cli.output import print_json

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
def settings(as_json: Json = False) -> None:
    """List every setting of a training, for --set NAME=VALUE: default, range, and what it is."""
    found = list(all_settings())
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
    if get_origin(field.annotation) is Literal:
        return ", ".join(map(str, get_args(field.annotation)))
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
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
