"""Way of an archive: sources to a plan, its parts to an engine, what comes back to a folder, and all of it again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from aeflow.archive.engines import engine as engine_of
from aeflow.archive.engines.base import Engine
from aeflow.archive.finish import COUNTED, Counts, write_studies_of
from aeflow.archive.folder import COMING, REMEDY, STUDIES, ArchiveFolder, Revision, State
from aeflow.archive.former import FormerFiles
from aeflow.archive.item import Item, scheme_of
from aeflow.archive.part_scorer import ModelFacts, Opening
from aeflow.archive.plan import Plan, write_plan
from aeflow.archive.sources import way_to
from aeflow.errors import DataError, OutputError, count
from aeflow.privacy import NAMES, SALT_OF, pseudonym, salt
from aeflow.results.table_rows import rows_of
from aeflow.runtime.extras import extra
from aeflow.runtime.files import file_digest
from aeflow.runtime.folders import alone
from aeflow.runtime.progress import bar
from aeflow.runtime.terminal import print

Task = dict[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for."""

    run: Path
    sources: Sequence[str]
    backend: str = "auto"
    device: str = "auto"
    rate: float | None = None
    threshold: float | None = None
    uids: bool = False
    since: bool = False
    overwrite: bool = False
    engine: str = "local"
    workers: int | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a command has done to an archive; the counts are of the revision that it completed."""

    state: State
    files: int  # of the revision, 0 if nothing was new
    counts: Counts


def score_archive(request: Request, out: Path) -> Done:
    """Score all files of the sources into the folder ``out``, or what is left of them, or what is new since.

    Raises DataError, OutputError or ArtifactError if the sources, the folder or the model are not what they must be.
    """
    with extra("parquet"):
        import pyarrow.parquet  # noqa: F401
    sources = [source if scheme_of(source) else os.path.abspath(source) for source in request.sources]
    folders = [folder for source in sources if (folder := way_to(source).folder(source)) is not None]
    _check_outside(out, folders)
    with ExitStack() as stack:
        started = stack.enter_context(engine_of(request.engine, request.workers, request.address))
        ArchiveFolder.opened(out)  # says what is wrong before a folder is made
        stack.enter_context(alone(out))
        archive = ArchiveFolder.opened(out)
        begun = _begun(archive, request, sources, folders, started)
        if begun is None:
            assert archive.state is not None, "it is complete"
            return Done(archive.state, 0, Counts())
        number, opening = begun
        _score(archive, number, started, opening)
        return _finished(archive, number)


def _check_outside(out: Path, folders: Sequence[str]) -> None:
    """Raise OutputError if an archive would lie among its sources, and its parts among the images."""
    around = next((one for one in folders if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(one))), None)
    if around is not None:
        raise OutputError(out, f"lies in {around}, which is to be scored", "name a folder outside of it")


def _begun(
    archive: ArchiveFolder, request: Request, sources: list[str], folders: list[str], started: Engine
) -> tuple[int, Opening] | None:
    """Return the revision to score, under way or new, and what all workers open; None if nothing is new since.

    What is under way goes on, also under --overwrite if it is of the same task: it may have begun so itself.
    """
    if archive.state is not None and archive.state.replaced:
        archive.clear()
    state, anew = archive.state, False
    if state is not None and not state.complete:
        number, former = len(state.revisions), state.revisions[-1]
        opening, facts = _opened(request, former, number, started, str(state.task["backend"]))
        differs = _difference("sources", former.sources, sources) or _other_task(state, _task(request, facts))
        if differs is None:
            _note_version(state, facts)
            return number, opening
        if not request.overwrite:
            raise OutputError(archive.path, differs, f"repeat the command as it was begun, or {REMEDY}")
        anew = True
    elif state is not None and request.overwrite:
        anew = True
    elif state is not None and not request.since:
        remedy = "add what is new with --since, or score all again with --overwrite"
        if set(sources) not in [set(one.sources) for one in state.revisions]:
            found = f"is an archive of other images: {', '.join(state.revisions[-1].sources)}"
            remedy = "name another folder with --out, add these images with --since, or replace it with --overwrite"
            raise OutputError(archive.path, found, remedy)
        scored = count(sum(one.files for one in state.revisions), "file")
        raise OutputError(archive.path, f"is complete: {scored}, model {str(state.task['model'])[:12]}", remedy)
    return _new_revision(archive, request, sources, folders, started, anew)


def _new_revision(
    archive: ArchiveFolder, request: Request, sources: list[str], folders: list[str], started: Engine, anew: bool
) -> tuple[int, Opening] | None:
    """Write the plan of a new revision, the first or of what is new since, and begin it; None if nothing is new.

    To begin ``anew``, what is there is deleted once there are images to score and a model that does.
    """
    state = None if anew else archive.state
    number = 1 if state is None else len(state.revisions) + 1
    coming, items = archive.plan(COMING), _items(request.sources)
    try:
        files = write_plan(items if state is None else FormerFiles(archive.parts()).changed(items), coming)
        if not files and state is None:
            raise DataError(request.sources[0], "holds no images", "name a folder, a table or a URL with images")
        if not files:
            coming.unlink()
            return None
        plan = file_digest(coming)
        revision = Revision(sources=sources, folders=folders, files=files, parts=len(Plan(coming, plan)), plan=plan)
        backend = None if state is None else str(state.task["backend"])
        opening, facts = _opened(request, revision, number, started, backend)
        differs = None if state is None else _other_task(state, _task(request, facts))
        if differs is not None:
            raise OutputError(archive.path, differs, f"repeat the command as it was begun, or {REMEDY}")
    except BaseException:
        coming.unlink(missing_ok=True)
        raise
    if anew:
        archive.clear(spare=coming)
    coming.rename(archive.plan(number))
    if state is None:
        archive.state = state = State(
            task=_task(request, facts),
            backend_version=facts.backend_version,
            rule=facts.rule,
            false_positive_rate=facts.false_positive_rate,
        )
    _note_version(state, facts)
    state.revisions.append(revision)
    archive.write_state()
    return number, opening


def _items(sources: Sequence[str]) -> Iterator[Item]:
    """Yield the files of all sources in order, named as the user typed them."""
    for source in sources:
        yield from way_to(source).items(source)


def _opened(
    request: Request, revision: Revision, number: int, started: Engine, backend: str | None
) -> tuple[Opening, ModelFacts]:
    """Return what all workers open, and what a first one found; ``backend``: the one that was taken before."""
    opening = Opening(
        run=os.path.abspath(request.run),
        backend=backend if backend is not None and request.backend == "auto" else request.backend,
        device=request.device,
        rate=request.rate,
        threshold=request.threshold,
        uids=request.uids,
        revision=number,
        images=revision.files,
        folders=tuple(revision.folders),
        salt=salt(),
    )
    facts: ModelFacts = started.facts(opening)
    return replace(opening, backend=facts.backend, fingerprint=facts.fingerprint), facts


def _task(request: Request, facts: ModelFacts) -> Task:
    """Return what may not change from one command to the next."""
    return {
        "model": facts.fingerprint,
        "threshold": facts.threshold,
        "backend": facts.backend,
        "uids": request.uids,
        "names": bool(os.environ.get(NAMES)),
        "salt": pseudonym(SALT_OF),
    }


SAID = {
    "model": "model",
    "threshold": "threshold",
    "backend": "backend",
    "uids": "--uids",
    "names": "--identify",
    "salt": "salt of the pseudonyms (AEFLOW_SALT)",
}


def _other_task(state: State, task: Task) -> str | None:
    """Return in what an archive was begun otherwise; None if it was not."""
    found = (_difference(SAID[name], state.task.get(name), value) for name, value in task.items())
    return next((one for one in found if one is not None), None)


def _difference(what: str, former: object, now: object) -> str | None:
    """Return that an archive was begun with something else; None if it was not."""
    if former == now:
        return None
    if what.startswith("salt"):
        return f"was begun with another {what}"
    told = [", ".join(value) if isinstance(value, list) else str(value) for value in (former, now)]
    if what == "model":
        told = [one[:12] for one in told]
    return f"was begun with other {what}: {told[0]}, now {told[1]}"


def _note_version(state: State, facts: ModelFacts) -> None:
    """Say it if another version of the backend goes on."""
    if state.backend_version != facts.backend_version:
        found = f"{facts.backend} {facts.backend_version} goes on where {state.backend_version} began"
        print(f"note: {found}: scores may differ in their last digits", file=sys.stderr)


def _score(archive: ArchiveFolder, number: int, started: Engine, opening: Opening) -> None:
    """Score the parts that are not there yet."""
    assert archive.state is not None, "it was begun"
    plan, there = Plan(archive.plan(number), archive.state.revisions[number - 1].plan), archive.there(number)
    left = [part for part in range(len(plan)) if part not in there]
    files = sum(map(plan.files_in, left))
    if there:
        total = sum(map(plan.files_in, range(len(plan))))
        print(f"note: going on: {total - files:,} of {count(total, 'file')} are scored already", file=sys.stderr)
    done = 0
    try:
        with bar("Scoring files", files) as advance:
            for part, table in started.tables(opening, map(plan.part, left)):
                archive.write_part(number, part, table)
                done += plan.files_in(part)
                advance(plan.files_in(part))
    except BaseException as error:
        error.add_note(f"{files - done:,} files are left: the same command goes on with them")
        raise


def _finished(archive: ArchiveFolder, number: int) -> Done:
    """Count the revision's rows, write the studies of the whole archive, and say that it is complete."""
    assert archive.state is not None, "it was begun"
    counts = Counts()
    for part in sorted(archive.there(number)):
        counts.add(rows_of(archive.part(number, part), COUNTED))
    rate = archive.state.false_positive_rate
    found = write_studies_of(archive.parts(), archive.path / STUDIES, rate, archive.path)
    counts.studies, counts.abnormal_studies = found
    revision = archive.state.revisions[number - 1]
    revision.complete = True
    archive.write_state()
    return Done(archive.state, revision.files, counts)
