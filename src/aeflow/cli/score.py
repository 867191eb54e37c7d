"""The command ``aeflow score``: images to a table, pictures and DICOM objects."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Backend, Device, Identify, Images, Overwrite, Run, app, refuse_swapped
from aeflow.cli.output import end
from aeflow.errors import SettingsError, count
from aeflow.runtime.terminal import print


@app.command()
def score(
    run: Run,
    paths: Images,
    out: Annotated[Path | None, typer.Option(help="Table to write: .csv or .parquet.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Folder for a picture of each image with its maps.")] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="With --maps: each image at its own size under its map, too.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Page to write, .html: sorted pictures, and a slider for the threshold.")
    ] = None,
    dicom: Annotated[
        Path | None, typer.Option(help="Folder for DICOM results of DICOM images: map, overlay and report.")
    ] = None,
    nifti: Annotated[
        Path | None, typer.Option(help="Folder for anomaly maps of volumes and DICOM series as NIfTI, in their space.")
    ] = None,
    false_positive_rate: Annotated[
        float | None, typer.Option(help="Threshold that this share of normals may exceed; the model's by default.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Threshold of the score, instead of a rate.")] = None,
    uids: Annotated[bool, typer.Option("--uids", help="Columns for the unique identifiers of DICOM images.")] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Score images: how abnormal, how sure, and where."""
    from aeflow.data.records import find_images
    from aeflow.deploy.open_model import open_model
    from aeflow.results.pictures import PictureFolder
    from aeflow.results.score_page import ScorePage
    from aeflow.results.score_table import ScoreLines, ScoreTable
    from aeflow.results.study_table import study_table_of, write_studies
    from aeflow.runtime.process import prepare
    from aeflow.scoring.score_files import Sink, score_files

    prepare()
    refuse_swapped(run, paths)
    if overlay and maps is None:
        raise SettingsError("--overlay", "given without --maps", "name a folder with --maps")
    if threshold is not None and false_positive_rate is not None:
        raise SettingsError("--threshold", "given beside --false-positive-rate", "give one of them")
    files = find_images(paths)
    scorer = open_model(run, backend, device, len(files))
    if false_positive_rate is not None:
        scorer = scorer.at_rate(false_positive_rate)
    if threshold is not None:
        scorer = scorer.at_threshold(threshold)
    pictured = maps is not None
    sinks: list[Sink] = []
    if as_json or out is None:
        sinks.append(ScoreLines(as_json, pictured, uids))
    if out is not None:
        sinks.append(ScoreTable(out, maps=pictured, uids=uids, overwrite=overwrite))
    if maps is not None:
        sinks.append(PictureFolder(maps, scorer, overlay, overwrite))
    if report is not None:
        sinks.append(ScorePage(report, scorer, overwrite))
    if nifti is not None:
        from aeflow.results.nifti import NiftiFolder  # nibabel takes a while to import

        sinks.append(NiftiFolder(nifti, overwrite))
    refused_dicom = []
    if dicom is not None:
        from aeflow.results.dicom import DicomFolder, ModelIdentity  # highdicom takes a second to import

        objects = DicomFolder(dicom, ModelIdentity(scorer.fingerprint, scorer.calibration), overwrite)
        sinks.append(objects)
    done = score_files(scorer, files, sinks)
    if out is not None and done.studies:
        write_studies(done.studies, study_table_of(out))
    if out is not None and not as_json:
        normal = count(done.verdicts["normal"], "image")
        print(f"{normal} called normal, {done.verdicts['abnormal']:,} abnormal\ntable: {out}")
        if threshold is not None or false_positive_rate is not None:
            print(f"threshold {scorer.calibration.threshold:.4f}: {scorer.calibration.rule}")
    if maps is not None and not as_json:
        print(f"pictures: {maps}")
    if report is not None and not as_json:
        print(f"report: {report}")
    if done.studies and not as_json:
        abnormal = sum(study.verdict == "abnormal" for study in done.studies)
        studies = count(len(done.studies), "study", "studies")
        print(f"{studies}, {abnormal:,} called abnormal" + (f": {study_table_of(out)}" if out else ""))
    if dicom is not None:
        refused_dicom = objects.refused
        if objects.not_dicom:
            are = f"{count(objects.not_dicom, 'image')} {'is' if objects.not_dicom == 1 else 'are'}"
            print(f"note: {are} not DICOM: no DICOM results for them", file=sys.stderr)
    if done.outside:
        verb, images = "is" if done.outside.total() == 1 else "are", count(done.verdicts.total(), "image")
        reasons = "; ".join(f"{number} by {', '.join(names)}" for names, number in done.outside.most_common())
        print(
            f"note: {done.outside.total():,} of {images} {verb} outside the intended input "
            f"({reasons}); do not rely on their scores",
            file=sys.stderr,
        )
    end([*done.refusals, *refused_dicom])
