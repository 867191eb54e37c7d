"""The command ``aeflow recalibrate``: a trained model with another calibration, from local normal images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Device, Identify, Json, Run, app
from aeflow.cli.output import end, print_json
from aeflow.runtime.terminal import print


@app.command()
def recalibrate(
    run: Run,
    normals: Annotated[
        list[Path], typer.Argument(help="Local normal images, or folders of them: 20 or more.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the recalibrated model into.")],
    device: Device = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Set threshold, p-values and maps from normal images of the place of use; no weight changes."""
    from aeflow.training.recalibrate import recalibrate as measure_on

    done = measure_on(run, normals, out, device=device)
    metadata, calibration = done.artifact.metadata["recalibration"], done.artifact.calibration
    if as_json:
        print_json(
            {
                "run": str(out),
                **{name: value for name, value in metadata.items() if name != "content"},
                "threshold": calibration.threshold,
                "rule": calibration.rule,
            }
        )
    else:
        print(
            f"recalibrated on {metadata['images']} normal images of {metadata['patients']} patients\n"
            f"threshold {calibration.threshold:.4f}: {calibration.rule}\nmodel: {out}"
        )
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    end(done.refusals)
