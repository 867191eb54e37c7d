"""Errors about a single image: refused, beyond a limit, or empty."""

from __future__ import annotations

from aeflow.errors import AeflowError
from aeflow.privacy import shown


class ImageError(AeflowError):
    """One image is refused; a batch goes on without it.

    ``where`` is the file's name, for tables that may hold it; the message has its pseudonym (``aeflow.pseudonym``).
    """

    def _named(self) -> str:
        return shown(self.where)


class ImageLimitError(ImageError):
    """The image exceeds a safety limit."""


class EmptyImageError(ImageError):
    """Every pixel of the image is the same."""
