"""The command ``aeflow train``: a data folder to a model."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aeflow.cli.added_graph import Graph, add_graph
from aeflow.cli.options import Changes, Device, Identify, Json, Preset, TrainData, Weights, app
from aeflow.cli.output import end, print_json
from aeflow.errors import count
from aeflow.runtime import ranks
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print

if TYPE_CHECKING:
    from aeflow.config import Settings
    from aeflow.data.plain_folders import PlainFolders, TrainingData


@app.command()
def train(
    data: TrainData,
    out: Annotated[Path, typer.Option(help="Folder to write the model into.")],
    abnormal: Annotated[
        list[Path] | None,
        typer.Option(help="Beside a plain folder of normal images: one of abnormal ones to learn from; repeatable."),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None, typer.Option(help="The same for images of which nobody knows; repeatable.")
    ] = None,
    all_normal: Annotated[
        bool, typer.Option("--all-normal", help="All below the folder is normal; each folder in it is a patient.")
    ] = False,
    preset: Preset = "default",
    labels_from: Annotated[
        Path | None,
        typer.Option(help="Worklist of aeflow serve, whose labelled images and drawn masks are learnt from, too."),
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Any timm network; needs its weights.")] = None,
    encoder_weights: Weights = None,
    region: Annotated[
        str | None,
        typer.Option(
            help="What counts: body; lungs, for chest X-rays; none; or a folder with masks of 20 to 50 painted normals."
        ),
    ] = None,
    looks_for: Annotated[
        str | None, typer.Option(help="What disease does: diffuse (much of the region), focal (a spot), or unknown.")
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            help="none, or mixture: learn from labelled abnormal and unlabelled images, too; "
            "--abnormal, --unlabelled and --labels imply it."
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="normal, or flowgmm: learn from labelled and unlabelled images in the flow's own latent."),
    ] = None,
    labels: Annotated[int | None, typer.Option(help="Labelled abnormal images to draw; all by default.")] = None,
    undrawn: Annotated[
        bool | None, typer.Option("--undrawn", help="Use the abnormal images not drawn as unlabelled ones.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Largest number of epochs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of split, start and order.")] = None,
    allow_leakage: Annotated[
        bool | None, typer.Option("--allow-leakage", help="Train although normals are in the test split, too.")
    ] = None,
    changes: Changes = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue a training that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the folder holds.")] = False,
    graph: Graph = True,
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Learn from normal images; with --abnormal, --classifier mixture or --prior flowgmm from others, too.

    On the way, synthetic anomalies (lesions drawn into normal images) show it what to look for, and a decoder learns to
    draw the reconstructions of `aeflow explain`. Started by torchrun, several processes share the work.
    """
    from aeflow.artifacts.free_place import check_run
    from aeflow.cli.cache import if_large
    from aeflow.config import make_settings, parse_changes, region_and_folder
    from aeflow.data.plain_folders import implied_settings, training_data
    from aeflow.training.training_images import check_number

    started = time.perf_counter()
    named = {
        "encoder": encoder,
        "region": region,
        "looks_for": looks_for,
        "classifier": classifier,
        "prior": prior,
        "labels": labels,
        "undrawn": undrawn,
        "epochs": epochs,
        "seed": seed,
        "allow_leakage": allow_leakage,
    }
    with ranks.joined(), _resumable(out):
        given_data = training_data(data, abnormal or (), unlabelled or (), all_normal)
        source, read = (given_data, []) if labels_from is None else _with_labels(given_data, labels_from)
        painted = None
        if region is not None:
            named["region"], painted = region_and_folder(region)
        given = {name: value for name, value in named.items() if value is not None}
        settings = make_settings(preset, **parse_changes(changes or []), **{**implied_settings(source), **given})
        check_run(out, resume, overwrite)
        check_number(source, settings)  # before torch takes its seconds to import
        with extra("train"):
            import numpy as np

            from aeflow.calibration.calibration import conformal_threshold
            from aeflow.training.promise import promise
            from aeflow.training.train import train as train_run
        trained = train_run(
            source,
            out,
            settings,
            encoder_weights=encoder_weights,
            painted=painted,
            device=device,
            resume=resume,
            overwrite=overwrite,
        )
        speaks = ranks.first()
    if not speaks:
        return
    for note in [*read, *trained.notes, *if_large()]:
        print(f"note: {note}", file=sys.stderr)
    if graph:
        add_graph(out)
    metadata, calibration = trained.artifact.metadata["training"], trained.artifact.calibration
    chosen = trained.artifact.settings
    if as_json:
        score = {
            "log_det_weight": chosen.log_det_weight,
            "threshold": calibration.threshold,
            "rule": calibration.rule,
        }
        found = {name: trained.artifact.metadata[name] for name in ("plan", "labelled_set")}
        print_json({"run": str(out), **metadata, **found, **score})
    else:
        print(
            f"trained on {count(metadata['normal_images'], 'normal image')}, {metadata['held_out_images']:,} held out; "
            f"{_epochs(metadata)}{time.perf_counter() - started:.0f} s"
        )
        for sentence in trained.artifact.metadata["plan"]:
            print(sentence)
        if chosen.region == "body":
            print("score and map are of the whole body; of chest X-rays --region lungs takes the lungs alone")
        if (taught := trained.artifact.metadata["labelled_set"]) is not None:
            print(_taught(taught, settings))
        phases = {"features": "features", "terms": "terms", "decoder": "decoder", "training": "networks"}
        phases |= {"flowgmm": "FlowGMM", "calibration": "calibration"}
        timed = {phase: name for phase, name in phases.items() if f"{phase}_seconds" in metadata}
        print("; ".join(f"{name} {_pace(metadata, phase)}" for phase, name in timed.items()))
        print(f"threshold {calibration.threshold:.4f}: {calibration.rule}")
        rank, _ = conformal_threshold(np.array(calibration.scores), chosen.false_positive_rate)
        print(promise(len(calibration.scores), rank, metadata["held_out_patients"]))
        print(f"model: {out}")
        print(f"next: {shlex.join(['aeflow', 'score', str(out)])} IMAGES --out scores.csv --report results.html")
    end(trained.refusals)


def _with_labels(data: Path | PlainFolders, worklist: Path) -> tuple[TrainingData, list[str]]:
    """Return the data with the images that readers labelled, and what the user should know of them."""
    with extra("serve"):
        from aeflow.serve.training_labels import labelled_records
    from aeflow.data.plain_folders import records_of
    from aeflow.data.reader_labels import with_reader_labels

    images, notes = labelled_records(worklist, records_of(data))
    both, more = with_reader_labels(data, images)
    return both, notes + more


@contextmanager
def _resumable(run: Path) -> Iterator[None]:
    """Say how a training goes on that Ctrl-C stops within this context: with the epochs that are kept, or without."""
    from aeflow.artifacts.layout import CHECKPOINT

    try:
        yield
    except KeyboardInterrupt as stop:
        if (run / CHECKPOINT).is_file():
            stop.add_note("the same command with --resume goes on")
        else:
            stop.add_note("no model was written; the same command begins again, with the features that are cached")
        raise


def _taught(labelled_set: dict[str, Any], settings: Settings) -> str:
    """Return what taught the classes, and the way they are learnt."""
    labelled = count(sum(labelled_set["labelled_images"].values()), "labelled abnormal image")
    pool = labelled_set["unlabelled"]
    not_used = "" if pool is None or pool["used"] else ", which are not used"
    unlabelled = "" if pool is None else f" and {pool['images']:,} unlabelled ones{not_used}"
    way = f"prior {settings.prior}" if settings.classifier == "none" else f"classifier {settings.classifier}"
    return f"learns classes from {labelled}{unlabelled} ({way})"


def _epochs(metadata: dict[str, Any]) -> str:
    """Return the best epoch for the summary; nothing if there was none to train, as without a flow."""
    return f"best of {metadata['epochs']} epochs: {metadata['best_epoch']}; " if metadata["epochs"] else ""


def _pace(metadata: dict[str, Any], phase: str) -> str:
    return f"{metadata[f'{phase}_seconds']:.0f} s ({metadata[f'{phase}_images_per_second']:.0f} images/s)"
