"""The command ``aeflow tune``: a search for better settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Changes, Data, Device, Identify, Json, Preset, Weights, app
from aeflow.cli.output import end, print_json
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print


@app.command()
def tune(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for preset.json, tune.html, tune.json and the trials.")],
    budget: Annotated[str, typer.Option(help="Time to spend in total, earlier calls included: 90s, 30m, 2h.")],
    preset: Preset = "default",
    encoder_weights: Weights = None,
    seed: Annotated[int | None, typer.Option(help="Seed of split, trainings and search.")] = None,
    changes: Changes = None,
    device: Device = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Search for better settings on train images alone; writes a preset for `aeflow train`, goes on when repeated."""
    from aeflow.config import make_settings, parse_changes

    with extra("tune"):
        from aeflow.tuning.report import print_tuning
        from aeflow.tuning.tune import PRESET, seconds_of
        from aeflow.tuning.tune import tune as search

    settings = make_settings(preset, **parse_changes(changes or []), **({} if seed is None else {"seed": seed}))
    found = search(
        data, out, settings, seconds_of(budget), encoder_weights=encoder_weights, preset=Path(preset), device=device
    )
    if as_json:
        print_json(found.summary)
    else:
        print_tuning(found.summary)
        print(f"preset: {out / PRESET}")
    end(found.refusals)
