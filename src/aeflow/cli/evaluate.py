"""The command ``aeflow evaluate``: metrics and a report of a model on labelled images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Backend, Data, Device, Identify, Json, Overwrite, Run, app, refuse_swapped
from aeflow.cli.output import end, print_json
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print


@app.command()
def evaluate(
    run: Run,
    data: Data,
    split: Annotated[str, typer.Option(help="Split to report.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Folder for the results; the model's by default.")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Measure a model on labelled images: metrics.json, scores.csv, plots and report.html."""
    from aeflow.artifacts.layout import read_metadata
    from aeflow.deploy.open_model import open_model

    with extra("report"):
        from aeflow.evaluation.evaluate import check
        from aeflow.evaluation.evaluate import evaluate as measure_on
        from aeflow.evaluation.terminal import print_table

    refuse_swapped(run, [data], "data folder")
    files = check(read_metadata(run), data, split, out or run, overwrite)  # before the model is read
    scorer = open_model(run, backend, device, len(files))
    result = measure_on(scorer, data, split=split, out=out or run, run=run, overwrite=overwrite, listed=files)
    if as_json:
        print_json(result.metrics)
    else:
        print_table(result.metrics)
        print(f"report: {result.report}")
    for note in result.metrics["notes"]:
        print(f"note: {note}", file=sys.stderr)
    end(result.refusals)
