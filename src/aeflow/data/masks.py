"""Masks beside the images: what is a lesion, and where disease can be; found by the stem of the image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aeflow.errors import DataError
from aeflow.privacy import REMEDY_IDENTIFY, shown

MASK, REGION = "mask", "region"  # of a lesion; of where disease can be. Folder beside the classes, column of a manifest
MASK_FOLDERS = (MASK, REGION)


class MaskFolder:
    """Masks of one split by stem; each may serve one image.

    Raises DataError if two files have one stem.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self.paths: dict[str, Path] = {}
        self.taken: dict[Path, Path] = {}
        for path in files:
            if path.stem in self.paths:
                found = f"{shown(path, folder.name)} has the stem of {shown(self.paths[path.stem], folder.name)}"
                raise DataError(folder, found, f"keep one {folder.name} for each stem; {REMEDY_IDENTIFY}")
            self.paths[path.stem] = path

    def of(self, image: Path) -> Path | None:
        """Return the mask of an image, None if it has none; DataError if another image has taken it."""
        mask = self.paths.get(image.stem)
        if mask is not None and (other := self.taken.setdefault(mask, image)) != image:
            found = f"{shown(image)} and {shown(other)} share a {self.folder.name}"
            remedy = f"give {self.folder.name}s in a column of manifest.csv; {REMEDY_IDENTIFY}"
            raise DataError(self.folder, found, remedy)
        return mask
