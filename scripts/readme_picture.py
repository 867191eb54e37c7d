"""Picture of the README: three test images of the demo, chosen by rule.

    python scripts/readme_picture.py runs/demo sample docs/images/demo.png

The abnormal image with the highest score, the abnormal one with the lowest, and the normal one in the middle.
"""

from __future__ import annotations

import sys
from pathlib import Path

import aeflow
from aeflow.data.records import read_records
from aeflow.imageio.errors import ImageError
from aeflow.reporting.gallery import gallery
from aeflow.reporting.panels import panel
from aeflow.reporting.style import save_png
from aeflow.scoring.scorer import score


def main(run: str, data: str, out: str) -> None:
    """Score the test split, and draw the three images."""
    artifact = aeflow.load(run).artifact
    results = []
    for record, result in score(artifact.scorer, read_records(data, "test"), maps=True, pictures=True):
        if isinstance(result, ImageError):
            raise result
        results.append((result.value, record, result))
    results.sort(key=lambda item: item[0])
    abnormal, normal = ([item for item in results if item[1].label == label] for label in (1, 0))
    chosen = [(abnormal[-1], "abnormal"), (abnormal[0], "abnormal"), (normal[len(normal) // 2], "normal")]
    rows = [panel(result, truth) for (_, _, result), truth in chosen]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    save_png(gallery(rows, artifact.calibration.map_limits), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
