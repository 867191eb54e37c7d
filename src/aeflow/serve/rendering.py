"""Pages from their templates: every text is escaped, a missing value is an error, figures are written in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aeflow._version import __version__
from aeflow.calibration.input_guard import MEANINGS
from aeflow.errors import count
from aeflow.metrics.image import Metric
from aeflow.reporting.p_value import p_words
from aeflow.reporting.score_page import in_script
from aeflow.serve.accounts import LOCAL
from aeflow.serve.service import service_of, who_of

HERE = Path(__file__).parent


def with_interval(metric: Metric) -> str:
    """Return a figure with its interval, as pages write it; of few images it may have none.

    >>> with_interval({"value": 0.9, "low": 0.8, "high": 0.95}), with_interval({"value": 1, "low": None, "high": None})
    ('0.900 (0.800 to 0.950)', '1.000 (too few for an interval)')
    """
    if metric["low"] is None:
        return f"{metric['value']:.3f} (too few for an interval)"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def meaning(outside: str) -> str:
    """Return in words why an image is outside the intended input.

    >>> meaning("size, features")
    'less than half as large as the smallest train normal; unlike the train normals as a whole'
    """
    return "; ".join(MEANINGS.get(one, one) for one in outside.split(", "))


environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters |= {
    "short": lambda value: f"{value:.3g}",
    "p": p_words,
    "minute": lambda text: f"{text[:10]} {text[11:16]}",
    "number_of": count,
    "interval": with_interval,
    "json": in_script,
    "meaning": meaning,
}


def rendered(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page; every text is escaped, a missing value is an error."""
    service, who = service_of(request), who_of(request)
    frame = {
        "version": __version__,
        "model": service.scorer.fingerprint,
        "smallest_p": service.scorer.calibration.smallest_p,
        "who": who,
        "may_leave": who not in (LOCAL,) and bool(who.role),
        "here": request.url.path,
    }
    return HTMLResponse(environment.get_template(template).render(**frame, **values), status)
