"""Masks beside the images: what is a lesion, and where disease can be; found by the stem of the image."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from aeflow.errors import DataError, count
from aeflow.privacy import REMEDY_IDENTIFY, shown, shown_few, unless_shown

MASK, REGION = "mask", "region"  # of a lesion; of where disease can be. Folder beside the classes, column of a manifest
MASK_FOLDERS = (MASK, REGION)


def stem(path: Path) -> str:
    """Return a file's name without what its format ends it in, by which a mask is its image's.

    >>> stem(Path("test/abnormal/a.nii.gz")), stem(Path("test/mask/a.png"))
    ('a', 'a')
    """
    name = Path(path.name)
    return (name.with_suffix("") if name.suffix.lower() == ".gz" else name).stem


def strays(where: object, kind: str, files: Collection[Path], images: Iterable[Path]) -> str | None:
    """Return a sentence on the masks of a folder that have the stem of no image, None if there are none."""
    stems = {stem(image) for image in images}
    stray = sorted(path for path in files if stem(path) not in stems)
    if not stray:
        return None
    these = f"{len(stray):,} of {count(len(files), kind)} in {where}"
    verb = "fits no image and is" if len(stray) == 1 else "fit no image and are"
    return f"{these} {verb} not used ({shown_few(stray, kind)}); give each the name of its image{unless_shown()}"


class MaskFolder:
    """Masks of one split by stem; each may serve one image.

    Raises DataError if two files have one stem.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self.paths: dict[str, Path] = {}
        self.taken: dict[Path, Path] = {}
        for path in files:
            if stem(path) in self.paths:
                found = f"{shown(path, folder.name)} has the stem of {shown(self.paths[stem(path)], folder.name)}"
                raise DataError(folder, found, f"keep one {folder.name} for each stem; {REMEDY_IDENTIFY}")
            self.paths[stem(path)] = path

    def of(self, image: Path) -> Path | None:
        """Return the mask of an image, None if it has none; DataError if another image has taken it."""
        mask = self.paths.get(stem(image))
        if mask is not None and (other := self.taken.setdefault(mask, image)) != image:
            found = f"{shown(image)} and {shown(other)} share a {self.folder.name}"
            remedy = f"give {self.folder.name}s in a column of manifest.csv; {REMEDY_IDENTIFY}"
            raise DataError(self.folder, found, remedy)
        return mask
