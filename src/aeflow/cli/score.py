"""The command ``aeflow score``: images to a table, pictures and DICOM objects."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aeflow.cli.options import Backend, Device, Identify, Overwrite, Run, Sources, app, refuse_swapped
from aeflow.cli.output import called, end
from aeflow.errors import DataError, OutputError, SettingsError, count
from aeflow.privacy import NAMES, SALT_OF, pseudonym
from aeflow.runtime.files import digest, encodable
from aeflow.runtime.terminal import print

if TYPE_CHECKING:
    from aeflow.data.records import Record
    from aeflow.scoring.scorer import Scorer

TABLES = (".csv", ".parquet")
FILE_NAME = re.compile(r"\.[A-Za-z]{2,7}")  # ending of the name of a file, not of a folder like `v1.2`


@app.command()
def score(
    run: Run,
    sources: Sources,
    out: Annotated[
        Path | None, typer.Option(help="Table to write, .csv or .parquet; any other name is the folder of an archive.")
    ] = None,
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
    since: Annotated[
        bool, typer.Option("--since", help="Archive: score only what is new or changed since it was scored.")
    ] = False,
    engine: Annotated[str, typer.Option(help="Archive: local, processes of this machine; or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Archive: processes that score; one for 8 cores by default.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Archive: where Ray is; auto: this machine is in it.")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Score images: how abnormal, how sure, and where."""
    from aeflow.backends.base import Wanted
    from aeflow.data.records import each_once, find_images
    from aeflow.deploy.open_model import open_model
    from aeflow.imageio.decoder_pool import decoders
    from aeflow.results.pictures import PictureFolder
    from aeflow.results.score_page import ScorePage
    from aeflow.results.score_table import ScoreLines, ScoreTable
    from aeflow.results.study_table import row_as_keyed, study_row, study_table_of, write_studies
    from aeflow.results.table_rows import summary_of
    from aeflow.results.unfinished_table import UnfinishedTable
    from aeflow.scoring.score_files import Sink, score_files
    from aeflow.scoring.studies import hardly_ever

    paths = [Path(source) for source in sources]
    refuse_swapped(run, paths)
    if overlay and maps is None:
        raise SettingsError("--overlay", "given without --maps", "name a folder with --maps")
    if threshold is not None and false_positive_rate is not None:
        raise SettingsError("--threshold", "given beside --false-positive-rate", "give one of them")
    of_archives = {"--since": since, "--engine": engine != "local", "--workers": workers, "--address": address}
    url = next((source for source in sources if "://" in source), None)
    to_table = out is not None and out.suffix in TABLES
    if out is not None and (url is not None or not to_table):
        if not to_table and FILE_NAME.fullmatch(out.suffix) and not out.is_dir():
            remedy = "end it in .csv or .parquet; the folder of an archive has a name without an ending"
            raise DataError(out, "the name says neither CSV nor Parquet", remedy)
        from aeflow.archive.score_archive import Request
        from aeflow.cli.archive import score_into

        others = {"--maps": maps, "--report": report, "--dicom": dicom, "--nifti": nifti}
        if to_table:
            remedy = "leave it out, or copy the objects to a folder and name that"
            _refuse({**others, "--since": since, "--json": as_json}, f"given for a table of {url}", remedy)
        else:
            _refuse(others, f"given for the archive {out}", "score these images into a table: end its name in .csv")
        asked = Request(
            run=run,
            sources=sources,
            backend=backend,
            device=device,
            rate=false_positive_rate,
            threshold=threshold,
            uids=uids,
            since=since,
            overwrite=overwrite,
            engine=engine,
            workers=workers,
            address=address,
        )
        score_into(asked, out, as_json, to_table)
        return
    _refuse(of_archives, "given without an archive", "name a folder with --out, which becomes one")
    if url is not None:
        raise SettingsError(
            url, "a URL, whose scores go to a file", "name a table or the folder of an archive with --out"
        )
    files = each_once(find_images(paths))
    for folder in (maps, dicom, nifti):
        if folder is not None:
            _keep_out(folder, paths)
    decoders().start()
    drawn = maps is not None or report is not None
    wanted = Wanted(maps=drawn or dicom is not None or nifti is not None, pictures=drawn)
    scorer = open_model(run, backend, device, len(files), wanted)
    if false_positive_rate is not None:
        scorer = scorer.at_rate(false_positive_rate)
    if threshold is not None:
        scorer = scorer.at_threshold(threshold)
    pictured = maps is not None
    sinks: list[Sink] = []
    volumes = None
    if nifti is not None:
        from aeflow.results.nifti import NiftiFolder  # nibabel takes a while to import

        volumes = NiftiFolder(nifti, overwrite)
    if as_json or out is None:
        sinks.append(ScoreLines(as_json, pictured, uids))
    former: UnfinishedTable | None = None  # pictures, pages and the like are made in one go
    if out is not None and not (as_json or maps or report or dicom or nifti):
        former = UnfinishedTable(out, _task(scorer, files, uids), files, overwrite)
    if out is not None:
        named = None if volumes is None else volumes.names
        sinks.append(ScoreTable(out, True, pictured, uids, overwrite, former, named))
    if maps is not None:
        sinks.append(PictureFolder(maps, scorer, overlay, overwrite))
    if report is not None:
        sinks.append(ScorePage(report, scorer, overwrite))
    if volumes is not None:
        sinks.append(volumes)
    refused_dicom = []
    if dicom is not None:
        from aeflow.results.dicom import DicomFolder, ModelIdentity  # highdicom takes a second to import

        objects = DicomFolder(dicom, ModelIdentity(scorer.fingerprint, scorer.calibration), overwrite)
        sinks.append(objects)
    if former is not None and former.files:
        print(f"note: going on: {former.files:,} of {count(len(files), 'file')} are scored already", file=sys.stderr)
    done = score_files(scorer, files, sinks, 0 if former is None else former.files)
    keyed = study_row
    if out is not None and former is not None and former.rows:
        done, keyed = summary_of(out, scorer.calibration.rate), row_as_keyed
    if out is not None and done.studies:
        write_studies(done.studies, study_table_of(out), keyed)
    if out is not None and not as_json:
        print(f"{called(done.verdicts, done.outside_called)}\ntable: {out}")
        if threshold is not None or false_positive_rate is not None:
            print(f"threshold {scorer.calibration.threshold:.4f}: {scorer.calibration.rule}")
    if maps is not None and not as_json:
        print(f"pictures: {maps}")
    if report is not None and not as_json:
        print(f"report: {report}")
    if nifti is not None and not as_json:
        print(f"maps of volumes: {nifti}")
    if dicom is not None and not as_json:
        print(f"DICOM results: {dicom}")
    if done.studies and not as_json:
        abnormal = sum(study.verdict == "abnormal" for study in done.studies)
        studies = count(len(done.studies), "study", "studies")
        print(f"{studies}, {abnormal:,} called abnormal" + (f": {study_table_of(out)}" if out else ""))
        if (seldom := hardly_ever(scorer.calibration)) is not None:
            print(f"note: {seldom}", file=sys.stderr)
    if dicom is not None:
        refused_dicom = objects.refused
        if objects.not_dicom:
            are = f"{count(objects.not_dicom, 'image')} {'is' if objects.not_dicom == 1 else 'are'}"
            them = "it" if objects.not_dicom == 1 else "them"
            print(f"note: {are} not DICOM: no DICOM results for {them}", file=sys.stderr)
    if done.outside:
        verb, images = "is" if done.outside.total() == 1 else "are", count(done.verdicts.total(), "image")
        reasons = "; ".join(f"{number} by {', '.join(names)}" for names, number in done.outside.most_common())
        print(
            f"note: {done.outside.total():,} of {images} {verb} outside the intended input "
            f"({reasons}); do not rely on their scores",
            file=sys.stderr,
        )
    end(done.refusals, refused_dicom)


def _keep_out(folder: Path, sources: Sequence[Path]) -> None:
    """Raise OutputError if results would lie below a folder that is scored, and be scored as new images next time."""
    above = folder.resolve().parents
    for source in sources:
        if source.is_dir() and source.resolve() in above:
            found = f"lies in {source}, where the next score would take its files for new images"
            raise OutputError(folder, found, "name a folder elsewhere")


def _task(scorer: Scorer, files: Sequence[Record], uids: bool) -> dict[str, str | float | bool]:
    """Return what a table is of, by what a person would call it, so that only the same command goes on with it."""
    return {
        "model": scorer.fingerprint,
        "threshold": scorer.calibration.threshold,
        "backend": scorer.backend.name,
        "list of files": digest([encodable(record.name) for record in files]),
        "setting of --uids": uids,
        "setting of --identify": bool(os.environ.get(NAMES)),
        "salt of the pseudonyms": pseudonym(SALT_OF),
    }


def _refuse(options: Mapping[str, object], found: str, remedy: str) -> None:
    """Raise SettingsError for the first option that is given where it means nothing."""
    for name, value in options.items():
        if value:
            raise SettingsError(name, found, remedy)
