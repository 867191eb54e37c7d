"""The command ``aeflow bench``: the time of a score on this machine, stage by stage."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Backend, Device, Identify, Json, Run, app
from aeflow.cli.output import end, print_json
from aeflow.runtime.extras import extra


@app.command()
def bench(
    run: Run,
    images: Annotated[
        Path | None, typer.Option(help="Folder of images; by default images that the model generates.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Measure where the time of a score goes on this machine, stage by stage, and how much memory it takes."""
    with extra("train"):
        from aeflow.artifacts.run import load_run
        from aeflow.deploy.benchmark import bench as measure
        from aeflow.deploy.benchmark import generated, images_of
        from aeflow.deploy.benchmark_table import print_bench
    from aeflow.data.records import find_images
    from aeflow.deploy.open_model import GRAPH_FROM_IMAGES, open_model
    from aeflow.runtime.files import write_text
    from aeflow.runtime.folders import current
    from aeflow.runtime.inputs import Inputs
    from aeflow.runtime.process import pick_device, prepare

    prepare()
    artifact = load_run(run, pick_device(device))
    inputs = Inputs(current(run).iterdir())
    if images is not None:
        inputs.add(record.path for record in find_images([images]))
    if out is not None:
        inputs.spare(out)
    with nullcontext(images_of(images, artifact.settings.slice_axis)) if images else generated(artifact) as records:
        found = measure(artifact, open_model(run, backend, device, GRAPH_FROM_IMAGES), records)
    if out is not None:
        write_text(out, json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    if as_json:
        print_json(found.to_json())
    else:
        print_bench(found)
    end(found.refusals)
