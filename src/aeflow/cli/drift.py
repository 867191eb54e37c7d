"""The command ``aeflow drift``: tables of scores against the normals that their model was calibrated on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Identify, Json, Overwrite, Run, app, refuse_swapped
from aeflow.cli.output import print_json
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print

BROKEN = 3  # exit code by which a scheduler knows that somebody has to look


@app.command()
def drift(
    run: Run,
    scores: Annotated[
        list[Path],
        typer.Argument(help="Tables of scores, or folders of Parquet parts.", show_default=False, readable=False),
    ],
    by: Annotated[str | None, typer.Option(help="Column of sources to compare: scanner, site, month.")] = None,
    order: Annotated[
        str | None, typer.Option(help="Column of the order, such as the date; that of the rows by default.")
    ] = None,
    join: Annotated[
        Path | None, typer.Option(help="Second table with a column path, and those that --by and --order name.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Share of images called abnormal that you accept: more is an alarm, too.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Page to write, .html: charts and what to do.")] = None,
    overwrite: Overwrite = False,
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Ask if normal images still look as they did when the model was calibrated; exit code 3 if they do not."""
    with extra("report"):
        from aeflow.drift.drift import drift as compare
        from aeflow.drift.report import check, write_report
        from aeflow.drift.terminal import print_drift, to_json

    refuse_swapped(run, scores, "tables of scores")
    inputs = [*scores, *([] if join is None else [join])]
    if report is not None:
        check(report, inputs, overwrite)
    found = compare(run, scores, by=by, order=order, join=join, budget=budget)
    if report is not None:
        write_report(found, report)
    if as_json:
        print_json(to_json(found))
    else:
        print_drift(found)
        if report is not None:
            print(f"report: {report}")
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if found.broken:
        raise typer.Exit(BROKEN)
