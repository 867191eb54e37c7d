"""One table of what only an archive can be scored from: sources that are URLs.

Until the table is whole, the parts are in ``scores.csv.archive.part`` beside it, and the same command goes on there.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from aeflow.archive.folder import STUDIES, ArchiveFolder
from aeflow.archive.score_archive import Done, Request, score_archive
from aeflow.results.score_table import ScoreTable, columns, row_writer
from aeflow.results.study_table import remove_studies, study_table_of
from aeflow.results.table_rows import rows_of
from aeflow.results.unfinished_table import rows_file
from aeflow.runtime.files import PART, replacing


def score_table(request: Request, out: Path) -> Done:
    """Score all files of the sources into the table ``out``, or what is left of them, and their studies beside it.

    Raises what ``score_archive`` does, and OutputError if something else is in the place of the table.
    """
    ScoreTable(out, uids=request.uids, overwrite=request.overwrite).check()
    work = out.with_name(f"{out.name}.archive{PART}")
    out.parent.mkdir(parents=True, exist_ok=True)
    done = score_archive(replace(request, overwrite=True), work)  # what is there is this command's own
    names, studies = columns(request.uids), study_table_of(out)
    with replacing(out) as file:
        with row_writer(out, file, names) as write:
            for part in ArchiveFolder.opened(work).parts():
                for row in rows_of(part, list(names)):
                    write(row)
        remove_studies(studies)
    if out.suffix == ".parquet":
        rows_file(out).unlink(missing_ok=True)
    if (work / STUDIES).is_file():
        with (work / STUDIES).open("rb") as found, replacing(studies) as file:
            shutil.copyfileobj(found, file)
    shutil.rmtree(work)
    return done
