"""Errors about a single image: refused, beyond a limit, or empty."""

from __future__ import annotations

from aeflow.errors import AeflowError
from aeflow.privacy import shown


class ImageError(AeflowError):
    """Refusal of one image; a batch goes on without it.

    ``where`` is the file's name, for tables that may hold it; the message has its pseudonym (``aeflow.privacy``).
    """

    def _named(self) -> str:
        return shown(self.where)


class FileError(ImageError):
    """Refusal of a whole file: none of its images is tried after it, so that a file is refused once."""


class ImageLimitError(FileError):
    """Refusal of a file, or of an image in it, that exceeds a safety limit."""


class EmptyImageError(ImageError):
    """Refusal of an image whose pixels are all the same."""
