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
from aeflow.archive.finish import Counts, write_studies_of
from aeflow.archive.folder import REMEDY, STUDIES, ArchiveFolder, Revision, State
from aeflow.archive.former import FormerFiles
from aeflow.archive.item import Item, scheme_of
from aeflow.archive.part_scorer import ModelFacts, Opening
from aeflow.archive.plan import Part, Plan, write_plan
from aeflow.archive.sources import way_to
from aeflow.errors import DataError, OutputError, count
from aeflow.privacy import NAMES, SALT_OF, pseudonym, salt
from aeflow.runtime.extras import extra
from aeflow.runtime.folders import alone
from aeflow.runtime.progress import bar
from aeflow.runtime.terminal import print


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
        if archive.state is not None and (request.overwrite or archive.state.replaced):
            archive.clear()
        revision = _revision(archive, request, sources, folders)
        if revision is None:
            assert archive.state is not None, "it is complete"
            return Done(archive.state, 0, Counts())
        number = _number(archive)
        facts = _begun(archive, request, revision, number, started)
        _score(archive, revision, number, started, facts)
        return _finished(archive, revision, number)


def _check_outside(out: Path, folders: Sequence[str]) -> None:
    """Raise OutputError if an archive would lie among its sources, and its parts among the images."""
    around = next((one for one in folders if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(one))), None)
    if around is not None:
        raise OutputError(out, f"lies in {around}, which is to be scored", "name a folder outside of it")


def _number(archive: ArchiveFolder) -> int:
    """Return the number of the revision that is under way, or comes next."""
    revisions = [] if archive.state is None else archive.state.revisions
    return len(revisions) + (not revisions or revisions[-1].complete)


def _revision(archive: ArchiveFolder, request: Request, sources: list[str], folders: list[str]) -> Revision | None:
    """Return the revision to go on with, or a new one whose plan is written; None if nothing is new since."""
    state = archive.state
    if state is not None and not state.complete:
        former = state.revisions[-1]
        if former.sources != sources:
            raise OutputError(archive.path, _differs("sources", former.sources, sources), _remedy_again())
        return former
    if state is not None and not request.since:
        scored = count(sum(one.files for one in state.revisions), "file")
        remedy = "add what is new since with --since, or score all again with --overwrite"
        raise OutputError(archive.path, f"is complete: {scored}, model {str(state.task['model'])[:12]}", remedy)
    items = _items(request.sources, sources)
    if state is not None:
        items = FormerFiles(archive.parts()).changed(items)
    files = write_plan(items, archive.plan(_number(archive)))
    if not files and state is None:
        raise DataError(request.sources[0], "holds no images", "name a folder, a table or a URL with images")
    plan = archive.plan(_number(archive))
    if not files:
        plan.unlink()
        return None
    return Revision(sources=sources, folders=folders, files=files, parts=len(Plan(plan)))


def _items(typed: Sequence[str], sources: Sequence[str]) -> Iterator[Item]:
    """Yield the files of all sources in order, named as the user typed them."""
    for text, source in zip(typed, sources, strict=True):
        yield from way_to(source).items(text)


def _begun(
    archive: ArchiveFolder, request: Request, revision: Revision, number: int, started: Engine
) -> tuple[Opening, ModelFacts]:
    """Return the opening for all workers, with what it opens; the archive's state is checked, or begins."""
    state = archive.state
    opening = Opening(
        run=os.path.abspath(request.run),
        backend=request.backend,
        device=request.device,
        rate=request.rate,
        threshold=request.threshold,
        uids=request.uids,
        revision=number,
        images=revision.files,
        folders=tuple(revision.folders),
        salt=salt(),
    )
    if state is not None and request.backend == "auto":
        opening = replace(opening, backend=str(state.task["backend"]))
    facts: ModelFacts = started.facts(opening)
    task: dict[str, str | float | bool] = {
        "model": facts.fingerprint,
        "threshold": facts.threshold,
        "backend": facts.backend,
        "uids": request.uids,
        "names": bool(os.environ.get(NAMES)),
        "salt": pseudonym(SALT_OF),
    }
    if state is None:
        rate = facts.false_positive_rate
        archive.state = state = State(
            task=task, backend_version=facts.backend_version, rule=facts.rule, false_positive_rate=rate
        )
    for name, value in task.items():
        if state.task.get(name) != value:
            found = _differs(SAID[name], state.task.get(name), value)
            raise OutputError(archive.path, found, _remedy_again())
    if state.backend_version != facts.backend_version:
        found = f"{facts.backend} {facts.backend_version} goes on where {state.backend_version} began"
        print(f"note: {found}: scores may differ in their last digits", file=sys.stderr)
    if number > len(state.revisions):
        state.revisions.append(revision)
        archive.write_state()
    return replace(opening, backend=facts.backend, fingerprint=facts.fingerprint), facts


SAID = {
    "model": "model",
    "threshold": "threshold",
    "backend": "backend",
    "uids": "--uids",
    "names": "--identify",
    "salt": "salt of the pseudonyms (AEFLOW_SALT)",
}


def _differs(what: str, former: object, now: object) -> str:
    """Return that an archive was begun with something else."""
    told = [", ".join(value) if isinstance(value, list) else str(value) for value in (former, now)]
    if what.startswith("salt"):
        return f"was begun with another {what}"
    if what == "model":
        told = [one[:12] for one in told]
    return f"was begun with other {what}: {told[0]}, now {told[1]}"


def _remedy_again() -> str:
    return f"repeat the command as it was begun, or {REMEDY}"


def _score(
    archive: ArchiveFolder, revision: Revision, number: int, started: Engine, begun: tuple[Opening, ModelFacts]
) -> None:
    """Score the parts that are not there yet."""
    plan = Plan(archive.plan(number))
    there = archive.there(number)
    left = [part for part in range(len(plan)) if part not in there]
    scored = revision.files - sum(map(plan.files_in, left))
    if there:
        files = count(revision.files, "file")
        print(f"note: going on: {scored:,} of {files} are scored already", file=sys.stderr)

    def parts() -> Iterator[Part]:
        for part in left:
            yield plan.part(part)

    with bar("Scoring files", revision.files - scored) as advance:
        for part, table in started.tables(begun[0], parts()):
            archive.write_part(number, part, table)
            advance(plan.files_in(part))


def _finished(archive: ArchiveFolder, revision: Revision, number: int) -> Done:
    """Count the revision's rows, write the studies of the whole archive, and say that it is complete."""
    assert archive.state is not None, "it was begun"
    counts = Counts()
    for part in sorted(archive.there(number)):
        counts.add(archive.part(number, part))
    rate = archive.state.false_positive_rate
    studies = write_studies_of(archive.parts(), archive.path / STUDIES, rate, archive.path)
    counts.studies, counts.abnormal_studies = studies
    archive.state.revisions[number - 1].complete = True
    archive.write_state()
    return Done(archive.state, revision.files, counts)
