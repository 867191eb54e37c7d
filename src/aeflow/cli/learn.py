"""Commands that make a model: train, tune, recalibrate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aeflow.cli.app import Changes, Data, Device, Identify, Json, Preset, Run, Weights, app
from aeflow.cli.output import end, print_json


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to write the model into.")],
    preset: Preset = "default",
    encoder: Annotated[str | None, typer.Option(help="Any timm network; needs its weights.")] = None,
    encoder_weights: Weights = None,
    prior: Annotated[
        str | None, typer.Option(help="normal, or gmm: learn from labelled abnormal and unlabelled images, too.")
    ] = None,
    labels: Annotated[int | None, typer.Option(help="Labelled abnormal images to draw; all by default.")] = None,
    undrawn: Annotated[bool | None, typer.Option("--undrawn", help="Use those not drawn as unlabelled ones.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs to train.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of split, start and order.")] = None,
    allow_leakage: Annotated[
        bool | None, typer.Option("--allow-leakage", help="Train although normals are in the test split, too.")
    ] = None,
    changes: Changes = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the folder holds.")] = False,
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Learn from the normal images of DATA; with --prior gmm from abnormal and unlabelled ones, too."""
    from aeflow import training
    from aeflow.choose import make_ready
    from aeflow.config import make_settings, parse_changes

    named = {
        "encoder": encoder,
        "prior": prior,
        "labels": labels,
        "undrawn": undrawn,
        "epochs": epochs,
        "seed": seed,
        "allow_leakage": allow_leakage,
    }
    settings = make_settings(
        preset, **parse_changes(changes or []), **{k: v for k, v in named.items() if v is not None}
    )
    trained = training.train(
        data,
        out,
        settings,
        encoder_weights=encoder_weights,
        device=device,
        resume=resume,
        overwrite=overwrite,
    )
    make_ready(out, device)
    facts = trained.artifact.facts["training"]
    weight, weights = trained.artifact.settings.log_det_weight, trained.artifact.facts["log_det_weights"]
    if as_json:
        score = {"log_det_weight": weight, "threshold": trained.artifact.calibration.threshold}
        print_json({"run": str(out), **facts, "lesson": trained.artifact.facts["lesson"], **score})
    else:
        print(
            f"trained on {facts['normal_images']} normal images, {facts['held_out_images']} held out; "
            f"best of {facts['epochs']} epochs: {facts['best_epoch']}; {facts['seconds']:.0f} s"
        )
        phases = {"features": "features", "training": "flow and decoder", "calibration": "calibration"}
        print("; ".join(f"{name} {_pace(facts, phase)}" for phase, name in phases.items()))
        if weights:
            best = f"finds synthetic anomalies best: AUROC {max(weights.values()):.3f}"
            print(f"the score counts {weight:g} of the log-determinant ({best})")
        print(f"model: {out}")
    for note in trained.notes:
        print(f"note: {note}", file=sys.stderr)
    end(trained.refusals)


@app.command()
def tune(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for preset.json, tune.html, tune.json and the trials.")],
    budget: Annotated[str, typer.Option(help="Time to spend in all, with that of earlier calls: 90s, 30m, 2h.")],
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
    from aeflow.evaluation.tuning import print_tuning
    from aeflow.tune import PRESET, seconds_of
    from aeflow.tune import tune as search

    settings = make_settings(preset, **parse_changes(changes or []), **({} if seed is None else {"seed": seed}))
    found = search(data, out, settings, seconds_of(budget), encoder_weights=encoder_weights, device=device)
    if as_json:
        print_json(found.facts)
    else:
        print_tuning(found.facts)
        print(f"preset: {out / PRESET}")
    end(found.refusals)


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
    """Set threshold, p-values and maps anew on normal images from where the model is used; no weight changes."""
    from aeflow.recalibrate import recalibrate as measure_on

    done = measure_on(run, normals, out, device=device)
    facts, calibration = done.artifact.facts["recalibration"], done.artifact.calibration
    if as_json:
        print_json(
            {
                "run": str(out),
                **{name: value for name, value in facts.items() if name != "content"},
                "threshold": calibration.threshold,
                "rule": calibration.rule,
            }
        )
    else:
        print(
            f"recalibrated on {facts['images']} normal images of {facts['patients']} patients\n"
            f"threshold {calibration.threshold:.4f}: {calibration.rule}\nmodel: {out}"
        )
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    end(done.refusals)


def _pace(facts: dict[str, Any], phase: str) -> str:
    return f"{facts[f'{phase}_seconds']:.0f} s ({facts[f'{phase}_images_per_second']:.0f} images/s)"
