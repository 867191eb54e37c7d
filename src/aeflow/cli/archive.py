"""Output of ``aeflow score`` for an archive, and of ``aeflow info`` on one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from aeflow.archive.finish import Counts
from aeflow.archive.folder import STUDIES, State
from aeflow.archive.one_table import score_table
from aeflow.archive.score_archive import Request, score_archive
from aeflow.cli.output import called, print_json
from aeflow.errors import count
from aeflow.privacy import shown
from aeflow.results.study_table import study_table_of
from aeflow.runtime.terminal import print


def score_into(request: Request, out: Path, as_json: bool, to_table: bool) -> None:
    """Score an archive, or from it one table, and say what came of it; exit code 1 if images were refused."""
    done = score_table(request, out) if to_table else score_archive(request, out)
    counts = done.counts
    if as_json:
        print_json({"archive": str(out), "files": done.files, **as_values(counts)})
    elif not done.files:
        print(f"nothing is new: {_files(done.state)} are as they were\narchive: {out}")
    else:
        print(called(counts.verdicts, counts.outside_called))
        print(
            f"table: {out}"
            if to_table
            else f"archive: {out}, a folder of Parquet parts: pandas.read_parquet({str(out)!r})"
        )
        if request.threshold is not None or request.rate is not None:
            print(f"threshold {done.state.task['threshold']:.4f}: {done.state.rule}")
        if counts.studies:
            studies = count(counts.studies, "study", "studies")
            where = study_table_of(out) if to_table else out / STUDIES
            print(f"{studies}, {counts.abnormal_studies:,} called abnormal: {where}")
    if outside := counts.outside.total():
        reasons = "; ".join(f"{number} by {names}" for names, number in counts.outside.most_common())
        verb, images = "is" if outside == 1 else "are", count(counts.images, "image")
        found = f"{outside:,} of {images} {verb} outside the intended input ({reasons})"
        print(f"note: {found}; do not rely on their scores", file=sys.stderr)
    if counts.refused:
        print(f"{count(counts.refused, 'image')} refused:", file=sys.stderr)
        for path, error in counts.refusals:
            print(f"  {shown(path)}: {error}", file=sys.stderr)
        if counts.refused > len(counts.refusals):
            print(f"  and {counts.refused - len(counts.refusals):,} more: the column error has all", file=sys.stderr)
        raise typer.Exit(1)


def as_values(counts: Counts) -> dict[str, Any]:
    """Return the counts as plain values."""
    return {
        "images": counts.images,
        "normal": counts.verdicts["normal"],
        "abnormal": counts.verdicts["abnormal"],
        "outside": counts.outside.total(),
        "refused": counts.refused,
        "studies": counts.studies,
        "abnormal_studies": counts.abnormal_studies,
    }


def lines_of(state: State, there: int) -> dict[str, str]:
    """Return what ``aeflow info`` shows of an archive, of which so many parts are there."""
    parts = sum(revision.parts for revision in state.revisions)
    unfinished = "being replaced" if state.replaced else f"unfinished: {there:,} of {count(parts, 'part')} are there"
    return {
        "archive": "complete" if state.complete else f"{unfinished}; repeat the command to go on",
        "files": _files(state),
        "sources": ", ".join(state.revisions[-1].sources) if state.revisions else "",
        "revisions": str(len(state.revisions)),
        "model": str(state.task["model"]),
        "backend": f"{state.task['backend']} {state.backend_version}",
        "threshold": f"{state.task['threshold']:.4f}: {state.rule}",
    }


def _files(state: State) -> str:
    return count(sum(revision.files for revision in state.revisions), "file")
