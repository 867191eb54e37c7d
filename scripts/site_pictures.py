"""Pictures of the quick start, docs/images/{map,explain}.jpeg and {report,audit}.png, from what the demo leaves.

make demo && aeflow audit sample --out runs/audit
python scripts/site_pictures.py runs/demo runs/audit      # needs chromium for the two pages
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import aeflow
from aeflow.data.records import find_images
from aeflow.results.pictures import PictureFolder
from aeflow.scoring.score_files import score_files

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SHOWN = Path("sample/test/abnormal/person101_bacteria_484.jpeg")  # a pneumonia at the heart's border, plainly seen
PAGES = {"report": (1100, 1440), "audit": (1100, 900)}  # pixels of the window
WIDTH = 900  # pixels at most


def main() -> None:
    """Draw and photograph all of them."""
    run, audit = map(Path, sys.argv[1:])
    model = aeflow.load(run)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        score_files(model.scorer, find_images([SHOWN]), [PictureFolder(scratch, model.scorer)])
        keep(scratch / "00001.png", "map")
        model.explain(SHOWN, scratch)
        keep(scratch / "explain.png", "explain")
        for name, page in (("report", run / "report.html"), ("audit", audit / "audit.html")):
            photograph(page, scratch / f"{name}.png", PAGES[name])
            keep(scratch / f"{name}.png", name)


def photograph(page: Path, out: Path, size: tuple[int, int]) -> None:
    """Photograph a page in a browser."""
    window = f"--window-size={size[0]},{size[1]}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", window, f"--screenshot={out}"]
    subprocess.run(["chromium", *options, page.resolve().as_uri()], check=True, capture_output=True)


def keep(source: Path, name: str) -> None:
    """Save a picture at the site's width, as a small file."""
    with Image.open(source) as picture:
        shown = picture.convert("RGB")
        if shown.width > WIDTH:
            shown = shown.resize((WIDTH, round(shown.height * WIDTH / shown.width)), Image.Resampling.LANCZOS)
        if name in PAGES:
            # Keeps colours that few pixels have.
            shown.quantize(256, Image.Quantize.MAXCOVERAGE).save(IMAGES / f"{name}.png", optimize=True)
        else:
            shown.save(IMAGES / f"{name}.jpeg", quality=90, optimize=True)


if __name__ == "__main__":
    main()
