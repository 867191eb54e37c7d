"""Build the images of ``aeflow demo`` from ``sample/``, byte for byte the same each time.

python scripts/make_demo_images.py
"""

from __future__ import annotations

from pathlib import Path

from aeflow.data.splits import evenly
from aeflow.datasets.demo_images import CREDIT, FILE, KINDS, NAMES, NEW_OF_EACH, NORMALS, README
from aeflow.runtime.files import write_bytes
from aeflow.runtime.one_file import packed

SAMPLE = Path(__file__).parent.parent / "sample"
TEXT = f"""Chest X-rays of children: normal ones to learn from (normal/), and others to be scored (new/).

From {CREDIT}
(https://creativecommons.org/licenses/by/4.0/). Changes: resized to 224 x 224 pixels by the preparers of a copy; some of
them, under other names. Far too few for any claim about accuracy. Research use, not a medical device.
"""


def files() -> dict[str, bytes]:
    """Return the files of the archive by name."""
    new = [evenly(sorted((SAMPLE / "val" / label).iterdir()), NEW_OF_EACH) for label in ("normal", "abnormal")]
    assert len(new) == len(KINDS)
    chosen = [*evenly(sorted((SAMPLE / "train" / "normal").iterdir()), NORMALS), *new[0], *new[1]]
    content = [TEXT.encode(), *(path.read_bytes() for path in chosen)]
    assert NAMES[0] == README
    return dict(zip(NAMES, content, strict=True))


if __name__ == "__main__":
    write_bytes(FILE, packed(files()))
