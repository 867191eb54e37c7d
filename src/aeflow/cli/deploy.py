"""Commands for those who run a model elsewhere: export, bench."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.app import Backend, Device, Identify, Json, Run, app
from aeflow.cli.output import end, print_json


@app.command()
def export(
    run: Run,
    to: Annotated[str, typer.Option(help="onnx or openvino.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the graph; RUN/onnx or RUN/openvino by default.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 with openvino.")] = "fp32",
    as_json: Json = False,
) -> None:
    """Write a model as one graph, from pixels to scores and maps, after proving that it gives the same scores."""
    from dataclasses import asdict

    from aeflow.export import export as write
    from aeflow.runtime import prepare

    prepare()
    folder, parity = write(run, to, out, precision)
    if as_json:
        print_json({"export": str(folder), "format": to, "precision": precision, "parity": asdict(parity)})
        return
    print(
        f"largest difference of a score from torch: {parity.largest:.2g} standard deviations of "
        f"held-out normals, {parity.flips} verdicts flipped, over {parity.images} images ({parity.abnormal} abnormal)\n"
        f"graph: {folder}"
    )


@app.command()
def bench(
    run: Run,
    images: Annotated[
        Path | None, typer.Option(help="Folder of images; by default some that the model makes up.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Measure where the time of a score goes on this machine, stage by stage, and how much memory it takes."""
    from aeflow.artifact import load
    from aeflow.bench import bench as measure
    from aeflow.bench import generated, images_of
    from aeflow.bench_table import print_bench
    from aeflow.choose import WORTH, open_model
    from aeflow.runtime import pick_device, prepare
    from aeflow.store import write_text

    prepare()
    artifact = load(run, pick_device(device))
    with nullcontext(images_of(images, artifact.settings.slice_axis)) if images else generated(artifact) as records:
        found = measure(artifact, open_model(run, backend, device, WORTH), records)
    if out is not None:
        write_text(out, json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    if as_json:
        print_json(found.to_json())
    else:
        print_bench(found)
    end(found.refusals)
