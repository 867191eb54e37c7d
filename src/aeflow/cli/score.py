"""Commands that use a model: evaluate, score, explain, info."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aeflow.cli.options import Backend, Device, Identify, Run, app
from aeflow.cli.output import end


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
    from aeflow.artifacts.layout import read_metadata
    from aeflow.data.records import find_images
    from aeflow.deploy.open_model import open_model
    from aeflow.results.study_table import study_table_of
    from aeflow.runtime.process import prepare
    from aeflow.scoring.score_files import score_files

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
        from aeflow.results.dicom.identifiers import ModelIdentity
        from aeflow.results.dicom.writer import Writer

        writer = Writer(dicom, ModelIdentity(read_metadata(run)["sha256"], scorer.calibration))
    done = score_files(scorer, files, out=out, maps=maps, dicom=writer, show=show)
    if out is not None and not as_json:
        print(f"{done.verdicts['normal']} images called normal, {done.verdicts['abnormal']} abnormal\ntable: {out}")
    if done.studies and not as_json:
        abnormal = sum(study.verdict == "abnormal" for study in done.studies)
        print(f"{len(done.studies)} studies, {abnormal} called abnormal" + (f": {study_table_of(out)}" if out else ""))
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
