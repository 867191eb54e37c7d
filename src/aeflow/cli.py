"""The command line: parse, call, print. Results go to stdout, everything else to stderr.

Exit code 0: done. 1: done, but some inputs were refused, or an audit found something. 2: wrong use, or a broken model.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aeflow import __version__
from aeflow.errors import AeflowError, ImageError
from aeflow.pseudonym import NAMES, identify

if TYPE_CHECKING:
    from aeflow.data.records import Record

app = typer.Typer(
    help="Learn what normal medical images look like, score how abnormal a new one is, and show where.\n\n"
    "Research use, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

datasets = typer.Typer(help="Prepare a data folder.", no_args_is_help=True)
app.add_typer(datasets, name="data")

Run = Annotated[Path, typer.Argument(help="Folder of a trained model.", show_default=False)]
Data = Annotated[Path, typer.Argument(help="Folder {train,val,test}/{normal,abnormal}/ or with manifest.csv.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Backend = Annotated[str, typer.Option(help="auto, torch, openvino or onnx: auto is the fastest with torch's scores.")]

Preset = Annotated[
    str, typer.Option(help="default, paper: the published AE-FLOW configuration, or a file that aeflow tune wrote.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting of the preset: NAME=VALUE, repeatable.")
]
Weights = Annotated[Path | None, typer.Option(help="The encoder's weights: safetensors or torch state dict.")]


def _identify(on: bool) -> bool:
    identify(on)
    return on


Identify = Annotated[
    bool,
    typer.Option("--identify", callback=_identify, help="Show names of files and patients instead of pseudonyms."),
]


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
    if as_json:
        lesson = trained.artifact.facts["lesson"]
        _print_json({"run": str(out), **facts, "lesson": lesson, "threshold": trained.artifact.calibration.threshold})
    else:
        print(
            f"trained on {facts['normal_images']} normal images, {facts['held_out_images']} held out; "
            f"best of {facts['epochs']} epochs: {facts['best_epoch']}; {facts['seconds']:.0f} s"
        )
        phases = {"features": "features", "training": "flow and decoder", "calibration": "calibration"}
        print("; ".join(f"{name} {_pace(facts, phase)}" for phase, name in phases.items()) + f"\nmodel: {out}")
    for note in trained.notes:
        print(f"note: {note}", file=sys.stderr)
    _end(trained.refusals)


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
        _print_json(found.facts)
    else:
        print_tuning(found.facts)
        print(f"preset: {out / PRESET}")
    _end(found.refusals)


@app.command()
def evaluate(
    run: Run,
    data: Data,
    split: Annotated[str, typer.Option(help="Which split to report.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Folder for the results; the model's by default.")] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Measure a model on labelled images: metrics.json, scores.csv, plots and report.html."""
    from aeflow.choose import open_model
    from aeflow.data.records import read_records
    from aeflow.evaluation.evaluate import evaluate as measure_on
    from aeflow.evaluation.summary import print_table
    from aeflow.runtime import prepare

    prepare()
    scorer = open_model(run, backend, device, len(read_records(data, split)))
    result = measure_on(scorer, data, split=split, out=out or run, run=run)
    if as_json:
        _print_json(result.metrics)
    else:
        print_table(result.metrics)
        print(f"report: {result.report}")
    _end(result.refusals)


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
        _print_json(
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
    _end(done.refusals)


@app.command()
def score(
    run: Run,
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Table to write: .csv or .parquet.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Folder for a picture of each image with its maps.")] = None,
    dicom: Annotated[
        Path | None, typer.Option(help="Folder for DICOM results of DICOM images: map, overlay and report.")
    ] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Score images: how abnormal, how sure, and where."""
    from aeflow.batch import score_files
    from aeflow.choose import open_model
    from aeflow.data.records import find_images
    from aeflow.runtime import prepare
    from aeflow.store import read_facts
    from aeflow.studies import table_of

    prepare()

    def at(row: dict[str, Any]) -> str:
        return f", slice {row['slice']}" if row["slice"] else ""

    def show(row: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(row, allow_nan=False))
        elif out is None and row["score"] is not None:
            outside = f"  (outside intended input: {row['outside']})" if row["outside"] else ""
            found = f"{row['verdict']:8}  score {row['score']:8.3f}  p {row['p_value']:.4f}  {row['path']}"
            print(found + at(row) + outside)

    files = find_images(paths)
    scorer = open_model(run, backend, device, len(files))
    writer = None
    if dicom:
        from aeflow.dicom_out import Maker, Writer

        writer = Writer(dicom, Maker(read_facts(run)["sha256"], scorer.calibration))
    done = score_files(scorer, files, out=out, maps=maps, dicom=writer, show=show)
    if out is not None and not as_json:
        print(f"{done.verdicts['normal']} images called normal, {done.verdicts['abnormal']} abnormal\ntable: {out}")
    if done.studies and not as_json:
        abnormal = sum(study.verdict == "abnormal" for study in done.studies)
        print(f"{len(done.studies)} studies, {abnormal} called abnormal" + (f": {table_of(out)}" if out else ""))
    if writer and writer.not_dicom:
        print(f"note: {writer.not_dicom} images are not DICOM: no DICOM results for them", file=sys.stderr)
    if done.outside:
        reasons = "; ".join(f"{count} by {', '.join(names)}" for names, count in done.outside.most_common())
        print(
            f"note: {done.outside.total()} of {done.verdicts.total()} images are outside the intended input "
            f"({reasons}); do not rely on their scores",
            file=sys.stderr,
        )
    _end(done.refusals)


@app.command()
def explain(
    run: Run,
    image: Annotated[Path, typer.Argument(help="One image.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for explain.png and explain.json.")],
    slice_number: Annotated[int | None, typer.Option("--slice", help="Of a volume, from 1.")] = None,
    device: Device = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Show why an image got its score: terms, healthy counterpart, and the normals that are most like it."""
    from aeflow.api import load

    model = load(run, device)
    found = model.explain(image, out, slice_number)
    if as_json:
        _print_json(found.to_json())
        return
    print(f"{found.score.verdict}  score {found.score.value:.3f}  p {found.score.p_value:.4f}\n{found.finding}")
    if found.score.outside:
        print(f"outside intended input: {', '.join(found.score.outside)}; do not rely on this score")
    if found.score.posterior:
        print("posterior: " + ", ".join(f"{kind} {p:.0%}" for kind, p in found.score.posterior.items()))
    if found.normals:
        nearest = (f"no. {one.number} (distance {one.distance:.3g})" for one in found.normals)
        print("nearest train normals: " + ", ".join(nearest))
    print(f"picture: {out / 'explain.png'}")
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)


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
        _print_json({"export": str(folder), "format": to, "precision": precision, "parity": asdict(parity)})
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
        _print_json(found.to_json())
    else:
        print_bench(found)
    _end(found.refusals)


@app.command()
def audit(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for audit.json and audit.html.")] = None,
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Look for what makes figures lie: patients and copies on both sides, shortcuts, unreadable files."""
    from aeflow.data.audit import audit as look_at
    from aeflow.evaluation.audit import print_audit, write_audit

    found = look_at(data)
    report = None if out is None else write_audit(found, out, identify)
    if as_json:
        _print_json(found.to_json(identify))
    else:
        print_audit(found, identify)
        if report is not None:
            print(f"report: {report}")
    if found.worst != "note":
        raise typer.Exit(1)


@datasets.command("split")
def data_split(
    data: Annotated[Path, typer.Argument(help="Folder {normal,abnormal,unlabelled}/ or with manifest.csv.")],
    out: Annotated[Path, typer.Option(help="Manifest to write; put it into DATA as manifest.csv.")],
    val: Annotated[float, typer.Option(help="Share of the images for validation; 0 for none.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the images for the test.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
) -> None:
    """Split images that have no split, whole patients each, and write a manifest."""
    from aeflow.data.manifest import write_split

    fractions = {"train": 1 - val - test, "val": val, "test": test}
    splits = write_split(data, out, {name: share for name, share in fractions.items() if share}, seed)
    _print_splits(splits)
    print(f"manifest: {out}")


@datasets.command("prepare")
def data_prepare(
    name: Annotated[str | None, typer.Argument(help="Data set; leave it out to see all.", show_default=False)] = None,
    folder: Annotated[Path | None, typer.Argument(help="Its unpacked download.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Data folder to make: manifest, terms, link to the images.")] = None,
    allow_counts: Annotated[
        bool, typer.Option("--allow-counts", help="Go on although counts are not as published.")
    ] = False,
    identify: Identify = False,
) -> None:
    """Turn the download of a public data set into a data folder, with its published split; without NAME, list them."""
    from aeflow.data.prepare import RECIPES, prepare, summary, terms
    from aeflow.errors import SettingsError

    if name is None:
        print("\n".join(summary(key, recipe) for key, recipe in RECIPES.items()))
        return
    if name not in RECIPES:
        raise SettingsError("data set", f"{name!r} is not known", f"name one of {', '.join(RECIPES)}")
    if folder is None or out is None:
        raise SettingsError(name, "no download or no --out", f"aeflow data prepare {name} FOLDER --out DATA")
    prepared = prepare(RECIPES[name], folder, out, allow_counts)
    _print_splits(prepared.splits)
    print(f"{terms(RECIPES[name], prepared)}\ndata: {out}")


@app.command()
def info(run: Run, as_json: Json = False) -> None:
    """Show what a model is, what it was trained on, and its threshold."""
    from aeflow.store import read_facts

    facts = read_facts(run)
    calibration = facts["calibration"]
    shown = {
        "encoder": f"{facts['encoder']['name']}, stages {facts['settings']['stages']}",
        "image size": facts["settings"]["image_size"],
        **{name.replace("_", " "): value for name, value in facts["training"].items()},
        **_recalibrated(facts),
        "threshold": f"{calibration['threshold']:.4f}: {calibration['rule']}",
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
    }
    if as_json:
        _print_json(facts)
    else:
        for name, value in shown.items():
            print(f"{name:20} {value}")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: every foreseen error is one line on stderr and exit code 2."""
    try:
        app(args=arguments)
    except AeflowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def _recalibrated(facts: dict[str, Any]) -> dict[str, str]:
    """What ``info`` shows of a recalibration, where there was one."""
    if "recalibration" not in facts:
        return {}
    found, before = facts["recalibration"], facts["recalibration"]["original"]
    return {
        "recalibrated on": f"{found['images']} local normal images of {found['patients']} patients",
        "threshold before": f"{before['threshold']:.4f}: {before['rule']}, in the units of its own calibration",
    }


def _print_splits(splits: dict[str, list[Record]]) -> None:
    from aeflow.data.records import LABELS

    for name, records in splits.items():
        numbers = (f"{sum(r.label == label for r in records)} {word}" for word, label in LABELS.items())
        print(f"{name:5} {', '.join(numbers)} images of {len({record.patient for record in records})} patients")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _pace(facts: dict[str, Any], phase: str) -> str:
    return f"{facts[f'{phase}_seconds']:.0f} s ({facts[f'{phase}_images_per_second']:.0f} images/s)"


def _end(refusals: list[tuple[Record, ImageError]]) -> None:
    """List what was refused, and leave with exit code 1 if anything was."""
    if not refusals:
        return
    print(f"{len(refusals)} images refused:", file=sys.stderr)
    for _, error in refusals:
        print(f"  {error}", file=sys.stderr)
    if not os.environ.get(NAMES):
        print("  (--identify shows their names)", file=sys.stderr)
    raise typer.Exit(1)
