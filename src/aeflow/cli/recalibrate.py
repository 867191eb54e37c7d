"""The command ``aeflow recalibrate``: a trained model with another calibration, from local normal images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.added_graph import Graph, add_graph
from aeflow.cli.options import Device, Identify, Json, Normals, Run, app, refuse_swapped
from aeflow.cli.output import end, print_json
from aeflow.errors import count
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print


@app.command()
def recalibrate(
    run: Run,
    normals: Normals,
    out: Annotated[Path, typer.Option(help="Folder to write the recalibrated model into.")],
    device: Device = "auto",
    graph: Graph = True,
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Set threshold, p-values and maps from normal images of the place of use; no weight changes."""
    from aeflow.training.local_normals import check_place, local_normals

    refuse_swapped(run, normals)
    check_place(out)
    local_normals(normals)  # before torch takes its seconds to import
    with extra("train"):
        from aeflow.training.recalibrate import recalibrate as measure_on

    done = measure_on(run, normals, out, device=device)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    if graph:
        add_graph(out)
    metadata, calibration = done.artifact.metadata["recalibration"], done.artifact.calibration
    if as_json:
        print_json(
            {
                "run": str(out),
                **{name: value for name, value in metadata.items() if name not in ("content", "salt")},
                "threshold": calibration.threshold,
                "rule": calibration.rule,
            }
        )
    else:
        print(
            f"recalibrated on {count(metadata['images'], 'normal image')} of {count(metadata['patients'], 'patient')}\n"
            f"threshold {calibration.threshold:.4f}: {calibration.rule}\nmodel: {out}"
        )
    end(done.refusals)
