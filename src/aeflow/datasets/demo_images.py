"""Chest X-rays that come with the package, for ``aeflow demo``: a few of the repository's ``sample/``, in one file.

They are of Kermany, Zhang, Goldbaum: Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for
Classification, Mendeley Data V2, 2018, doi:10.17632/rscbjbr9sj.2, under CC BY 4.0. ``scripts/make_demo_images.py``
makes the file.
"""

from __future__ import annotations

from pathlib import Path

from aeflow.runtime.files import write_bytes
from aeflow.runtime.one_file import unpacked

FILE = Path(__file__).with_name("demo_images.zip")
CREDIT = "Kermany et al. 2018, doi:10.17632/rscbjbr9sj.2, CC BY 4.0"
NORMAL, NEW = "normal", "new"  # folders: to train on, and to be scored
KINDS = ("normal", "pneumonia")  # beginnings of the names of new images
NORMALS, NEW_OF_EACH = 100, 12
README = "README.txt"
NAMES = (
    README,
    *(f"{NORMAL}/{number:03}.jpeg" for number in range(1, NORMALS + 1)),
    *(f"{NEW}/{kind}-{number:02}.jpeg" for kind in KINDS for number in range(1, NEW_OF_EACH + 1)),
)


def write_demo_images(folder: Path) -> None:
    """Write the images, and where they come from, into a folder."""
    for name, content in unpacked(FILE, NAMES).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / name, content, sync_name=False)
