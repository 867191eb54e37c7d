"""Commands that use a model: evaluate, score, explain, info."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aeflow.cli.app import Backend, Data, Device, Identify, Json, Run, app
from aeflow.cli.output import end, print_json


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
        print_json(result.metrics)
    else:
        print_table(result.metrics)
        print(f"report: {result.report}")
    end(result.refusals)


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
    end(done.refusals)


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
        print_json(found.to_json())
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
        print_json(facts)
    else:
        for name, value in shown.items():
            print(f"{name:20} {value}")


def _recalibrated(facts: dict[str, Any]) -> dict[str, str]:
    """What ``info`` shows of a recalibration, where there was one."""
    if "recalibration" not in facts:
        return {}
    found, before = facts["recalibration"], facts["recalibration"]["original"]
    return {
        "recalibrated on": f"{found['images']} local normal images of {found['patients']} patients",
        "threshold before": f"{before['threshold']:.4f}: {before['rule']}, in the units of its own calibration",
    }
