"""The command ``aeflow info``: facts of a trained model."""

from __future__ import annotations

from typing import Any

from aeflow.cli.options import Json, Run, app
from aeflow.cli.output import print_json
from aeflow.errors import count, printable
from aeflow.runtime.terminal import print


@app.command()
def info(run: Run, as_json: Json = False) -> None:
    """Show what a model is, what it was trained on, and its threshold."""
    from aeflow.artifacts.layout import read_metadata

    metadata = read_metadata(run)
    calibration = metadata["calibration"]
    shown = {
        "encoder": f"{metadata['encoder']['name']}, stages {metadata['settings']['stages']}",
        "image size": metadata["settings"]["image_size"],
        **{name.replace("_", " "): value for name, value in metadata["training"].items()},
        **_recalibrated(metadata),
        "threshold": f"{calibration['threshold']:.4f}: {calibration['rule']}",
        "versions": ", ".join(f"{name} {number}" for name, number in metadata["versions"].items()),
    }
    if as_json:
        print_json(metadata)
    else:
        for name, value in shown.items():
            print(f"{printable(name):20} {printable(str(value))}")


def _recalibrated(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the lines on a recalibration; none if there was none."""
    if "recalibration" not in metadata:
        return {}
    found, before = metadata["recalibration"], metadata["recalibration"]["original"]
    return {
        "recalibrated on": f"{count(found['images'], 'local normal image')} of {count(found['patients'], 'patient')}",
        "threshold before": f"{before['threshold']:.4f}: {before['rule']}, in the units of its own calibration",
    }
