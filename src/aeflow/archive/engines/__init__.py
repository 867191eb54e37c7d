"""Engines that run the same function on the parts of an archive: processes of this machine, or Ray.

A new one is a file here and a line in ENGINES.
"""

from __future__ import annotations

from aeflow.archive.engines.base import Engine
from aeflow.archive.engines.local import LocalEngine
from aeflow.archive.engines.ray import RayEngine
from aeflow.errors import SettingsError

ENGINES: dict[str, type[Engine]] = {"local": LocalEngine, "ray": RayEngine}


def engine(name: str, workers: int | None = None, address: str | None = None) -> Engine:
    """Return the named engine, not yet started; SettingsError for an unknown one, or one that cannot be had so."""
    if name not in ENGINES:
        raise SettingsError("--engine", f"{name!r} is unknown", f"choose one of {', '.join(ENGINES)}")
    if workers is not None and workers < 1:
        raise SettingsError("--workers", f"{workers} of them", "give a number from 1")
    return ENGINES[name](workers, address)
