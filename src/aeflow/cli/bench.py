"""The command ``aeflow bench``: the time of a score on this machine, stage by stage."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Backend, Device, Identify, Json, Overwrite, Run, app
from aeflow.cli.output import end, print_json
from aeflow.errors import SettingsError
from aeflow.runtime.extras import extra


@app.command()
def bench(
    run: Run,
    images: Annotated[
        Path | None, typer.Option(help="Folder of images; by default those that a run generates: an export needs some.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Measure where the time of a score goes on this machine, stage by stage, and how much memory it takes."""
    from aeflow.artifacts.layout import is_export
    from aeflow.data.records import find_images
    from aeflow.deploy.benchmark import bench as measure
    from aeflow.deploy.benchmark import images_of
    from aeflow.deploy.benchmark_table import print_bench
    from aeflow.deploy.open_model import GRAPH_FROM_IMAGES, open_model
    from aeflow.runtime.files import refuse_former, write_text
    from aeflow.runtime.folders import current
    from aeflow.runtime.inputs import Inputs
    from aeflow.runtime.process import pick_device

    inputs = Inputs([run] if run.is_file() else current(run).iterdir())
    if images is not None:
        inputs.add(record.path for record in find_images([images]))
    if out is not None:
        inputs.spare(out)
        refuse_former(out, overwrite)
    expected = GRAPH_FROM_IMAGES
    if is_export(run):
        if images is None:
            raise SettingsError("--images", "not given, and an export generates none", "name a folder of images")
        scorer = open_model(run, backend, device, expected)
        found = measure(scorer, images_of(images, scorer.settings.slice_axis))
    else:
        with extra("train"):
            from aeflow.artifacts.run import load_run
            from aeflow.deploy.network_timing import TorchNetwork, generated
        artifact = load_run(run, pick_device(device))
        axis = artifact.settings.slice_axis
        with nullcontext(images_of(images, axis)) if images else generated(artifact) as records:
            found = measure(open_model(run, backend, device, expected), records, TorchNetwork(artifact))
    if out is not None:
        write_text(out, json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    if as_json:
        print_json(found.to_json())
    else:
        print_bench(found)
    end(found.refusals)
