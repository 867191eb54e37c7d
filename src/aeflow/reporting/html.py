"""HTML pages from templates, and values as text that strangers may see."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aeflow.errors import count

# a path with at least one folder, from a root, a drive, a share or a home
ABSOLUTE = re.compile(r"""(?<![\w.~/\\-])(?:[A-Za-z]:[\\/]+|\\\\|~[\\/]|/+)(?:[^\s:;,'"\\/]+[\\/]+)+([^\s:;,'"\\/]*)""")


def public(value: object) -> str:
    """Return a value as text for strangers: numbers short, lists flat, and of absolute paths only the last part."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return ", ".join(map(public, value))
        case str() if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute():
            return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return ABSOLUTE.sub(r"\1", str(value))


def render(template: str, **values: Any) -> str:
    """Return a template of this folder filled with values; every text is escaped, a missing value is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "public": public,
        "words": lambda name: str(name).replace("_", " "),
        "number_of": count,
        "f3": lambda value: f"{value:.3f}",
        "percent": lambda value: f"{100 * value:.1f} %",
        "by": lambda interval: {"delong": "DeLong", "wilson": "Wilson", None: ""}.get(interval, interval),
        "of100": lambda value: f"{100 * value:.0f}",
        "md": lambda text: re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", " ".join(str(text).split())),
    }
    return environment.get_template(template).render(**values)
