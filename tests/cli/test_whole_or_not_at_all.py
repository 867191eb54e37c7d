"""Laws of all that is written: killed at any event or on a full disk, it is the old or the new, never a mixture."""

from __future__ import annotations

import csv
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from aeflow.artifacts.layout import OF_EXPORT, OF_TRAINING, RESULTS, read_export
from aeflow.artifacts.run import load_run
from aeflow.data.records import read_records
from aeflow.results.score_table import columns
from aeflow.runtime.files import PART, file_digest
from aeflow.runtime.folders import alone, current
from aeflow.runtime.one_file import packed
from helpers import public_sets
from helpers.command import within
from helpers.data import SAMPLE, TINY
from helpers.killing import Commands, Ended, commands

OLD = b"old"
Record = Callable[[str, object], None]
LITTLE = 200  # bytes that a file may have: less than any result takes
LIMITS = [LITTLE, *(pytest.param(bytes_, marks=pytest.mark.torture) for bytes_ in (0, 4096, 2**16))]
A_FEW = 2  # kills of a command in the ordinary tests; with -m torture at every event
IMAGES = sorted((SAMPLE / "test" / "normal").iterdir())
TORCH = ("--backend", "torch")
SMALL = {"image_size": 64, "hidden": 16, "flow_steps": 2, "epochs": 1, "batch_size": 8, "stages": "3"}


@pytest.fixture(scope="module")
def warm() -> Iterator[Commands]:
    with commands() as found:
        yield found


@dataclass(frozen=True)
class Case:
    """A command that writes, its folder, what lies there before, and what must hold whenever it ends."""

    arguments: tuple[object, ...]
    under: Path
    before: Callable[[], None]
    check: Callable[[], None]


def tree(folder: Path) -> dict[str, bytes]:
    """The content of all files that are no leftovers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix != PART
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def put(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def all_old_or_all_new(folder: Path, old: dict[str, bytes], least: set[str], kept: str = "notes.txt") -> None:
    """No old file stands beside a new one, before and after the next writer has come; a foreign one is there."""
    seen = tree(folder)
    assert seen.pop(kept) == OLD
    assert all(old.get(name) == content for name, content in seen.items()) or OLD not in seen.values()
    with alone(folder):  # the next writer
        seen = tree(folder)
        assert seen.pop(kept) == OLD
        assert seen == old or (OLD not in seen.values() and least <= set(seen)), sorted(seen)
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".aeflow-lock"]


def rows_of(path: Path) -> int:
    """The number of rows of a whole table; raises if it is not whole."""
    if path.suffix == ".parquet":
        return pq.read_table(path).num_rows
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(len(row) == len(columns()) and None not in row.values() for row in rows)
    return len(rows)


def case_of(name: str, tmp: Path, tiny_run: Path, data: Path, weights: Path, export: Path) -> Case:
    """The case of one command."""
    out = tmp / "out"
    match name:
        case "score.csv" | "score.parquet":
            table = out / name
            old = tmp / f"old-{name}"
            within("score", tiny_run, *IMAGES[:2], "--out", old, *TORCH)

            def whole_table() -> None:
                assert rows_of(table) in (2, 3)  # the old one, or the new one

            return Case(
                ("score", tiny_run, *IMAGES[:3], "--out", table, "--overwrite", *TORCH),
                out,
                lambda: put(out, {name: old.read_bytes()}),
                whole_table,
            )
        case "maps":
            old = tmp / "old"
            within("score", tiny_run, IMAGES[5], IMAGES[6], IMAGES[7], "--maps", old, *TORCH)
            known = tree(old)

            def pictures_of_one_table() -> None:
                with alone(out, ".png"):  # the next writer
                    seen = tree(out)
                assert seen.pop("notes.txt") == OLD
                new = seen.keys() == {"00001.png", "00002.png"} and seen.items().isdisjoint(known.items())
                assert seen == known or new

            return Case(
                ("score", tiny_run, *IMAGES[:2], "--maps", out, "--overwrite", *TORCH),
                out,
                lambda: put(out, {**known, "notes.txt": OLD}),
                pictures_of_one_table,
            )
        case "report":
            page = out / "scores.html"
            within("score", tiny_run, IMAGES[5], "--report", tmp / "old.html", *TORCH)
            former = (tmp / "old.html").read_bytes()

            def a_whole_page() -> None:
                content = page.read_bytes()
                assert content == former or (content.endswith(b"</html>\n") and content.count(b"data:image/jpeg") == 3)

            return Case(
                ("score", tiny_run, *IMAGES[:3], "--report", page, "--overwrite", *TORCH),
                out,
                lambda: put(out, {"scores.html": former}),
                a_whole_page,
            )
        case "explain" | "audit":
            names = {f"{name}.{ending}" for ending in (("png", "json") if name == "explain" else ("html", "json"))}
            arguments = ("explain", tiny_run, IMAGES[0]) if name == "explain" else ("audit", data)
            before = dict.fromkeys(names, OLD)
            return Case(
                (*arguments, "--out", out, "--overwrite"),
                out,
                lambda: put(out, {**before, "notes.txt": OLD}),
                lambda: all_old_or_all_new(out, before, names),
            )
        case "evaluate":
            before = dict.fromkeys(RESULTS, OLD)
            least = {"metrics.json", "scores.csv", "scores.parquet", "report.html", "model_card.md", "plots/roc.png"}
            return Case(
                ("evaluate", tiny_run, data, "--out", out, "--overwrite", *TORCH),
                out,
                lambda: put(out, {**before, "notes.txt": OLD}),
                lambda: all_old_or_all_new(out, before, least),
            )
        case "train":
            before = {**dict.fromkeys((*OF_TRAINING[:-2], *RESULTS), OLD), **{f"val/{name}": OLD for name in RESULTS}}

            def one_model() -> None:
                if (current(out) / "model.json").read_bytes() != OLD:
                    load_run(out)
                unfinished = out / "checkpoint.safetensors"
                if unfinished.exists():  # of the new training, which has not come to its end
                    assert (out / "model.json").read_bytes() == OLD
                    unfinished.unlink()
                all_old_or_all_new(out, before, {"model.json", "model.safetensors", "normals.safetensors"})

            sets = [text for key, value in SMALL.items() for text in ("--set", f"{key}={value}")]
            arguments = ("train", data, "--out", out, "--encoder", TINY, "--encoder-weights", weights, *sets)
            return Case(
                (*arguments, "--overwrite", "--no-graph", "--device", "cpu"),
                out,
                lambda: put(out, {**before, "notes.txt": OLD}),
                one_model,
            )
        case "recalibrate":

            def a_model_or_none() -> None:
                if out.exists() and current(out).joinpath("model.json").exists():
                    load_run(out)
                elif out.exists():
                    assert tree(out) == {}

            arguments = ("recalibrate", tiny_run, data / "train" / "normal", "--out", out, "--device", "cpu")
            return Case(arguments, out, lambda: shutil.rmtree(out, ignore_errors=True), a_model_or_none)
        case "export":
            files = {path.name: path.read_bytes() for path in export.iterdir()}

            def an_export() -> None:
                found = read_export(out)
                for file, digest in found["files"].items():
                    assert file_digest(current(out) / file) == digest
                assert (out / "export.json").is_file()
                assert (out / "notes.txt").read_bytes() == OLD

            arguments = ("export", tiny_run, "--to", "openvino", "--out", out, "--overwrite")
            return Case(arguments, out, lambda: put(out, {**files, "notes.txt": OLD}), an_export)
        case "one file":
            model = out / "MODEL.aeflow"
            files = {path.name: path.read_bytes() for path in export.iterdir()}
            one = packed({name: files[name] for name in OF_EXPORT if name in files})

            def a_whole_file() -> None:
                read_export(model)
                assert (out / "notes.txt").read_bytes() == OLD

            arguments = ("export", tiny_run, "--to", "openvino", "--out", model)
            return Case(arguments, out, lambda: put(out, {"MODEL.aeflow": one, "notes.txt": OLD}), a_whole_file)
        case "split":
            unsplit = tmp / "unsplit"
            for i in range(40):
                (unsplit / "normal").mkdir(parents=True, exist_ok=True)
                (unsplit / "normal" / f"{i:02}.png").write_bytes(b"")
            manifest = out / "manifest.csv"

            def a_manifest_or_none() -> None:
                if manifest.exists():
                    assert manifest.read_text().count("\n") == 41

            arguments = ("data", "split", unsplit, "--out", manifest)
            return Case(arguments, out, lambda: put(out, {"notes.txt": OLD}), a_manifest_or_none)
        case "prepare":
            download = tmp / "download"
            public_sets.mvtec(download)
            whole = {"manifest.csv", "SOURCE.md", "images"}

            def a_data_folder_or_none() -> None:
                if (out / "manifest.csv").exists():
                    assert len(read_records(out)) == 9
                if out.exists():
                    assert {path.name for path in out.iterdir() if path.name[0] != "."} <= whole

            arguments = ("data", "prepare", "mvtec", download, "--out", out, "--allow-counts")
            return Case(arguments, out, lambda: shutil.rmtree(out, ignore_errors=True), a_data_folder_or_none)
    raise ValueError(name)


NAMES = ("score.csv", "score.parquet", "maps", "report", "explain", "audit", "evaluate")
NAMES += ("train", "recalibrate", "split", "prepare")
LONG = [pytest.param(name, marks=pytest.mark.torture) for name in ("export", "one file")]  # as long as all the others


@pytest.fixture(params=[*NAMES, *LONG])
def case(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tiny_run: Path,
    data: Path,
    tiny_weights: Path,
    exports: Callable[[str], Path],
) -> Case:
    export = exports("onnx") if request.param in ("export", "one file") else tiny_run
    return case_of(request.param, tmp_path, tiny_run, data, tiny_weights, export)


def killed(warm: Commands, case: Case, at: int) -> Ended:
    case.before()
    ended = warm.run(*case.arguments, under=case.under, at=at)
    case.check()
    return ended


def test_a_killed_command_leaves_the_old_or_the_new(warm: Commands, case: Case) -> None:
    whole = killed(warm, case, 0)
    assert whole.code in (0, 1), whole.err  # an audit finds something
    rng = random.Random(str(case.arguments[0]))
    last = whole.events
    for at in sorted({last - 1, *rng.sample(range(1, last + 1), min(A_FEW - 1, last))}):
        assert killed(warm, case, at).code == -signal.SIGKILL
    again = warm.run(*case.arguments, under=case.under)  # with what is left there now
    assert again.code in (0, 1) or "is there already" in again.err, again.err
    assert not [path for path in case.under.rglob("*") if path.suffix == PART or path.name.startswith(".")]


@pytest.mark.torture
def test_a_command_killed_at_every_event_leaves_the_old_or_the_new(
    warm: Commands, case: Case, record_property: Record
) -> None:
    last = killed(warm, case, 0).events
    for at in range(1, last + 1):
        killed(warm, case, at)
    record_property("kills", last)


@pytest.mark.parametrize(
    "limit", [LITTLE, *(pytest.param(more, marks=pytest.mark.torture) for more in (0, 4096, 2**16))]
)
def test_on_a_full_disk_a_command_says_so_and_leaves_the_old(
    warm: Commands, case: Case, limit: int, record_property: Record
) -> None:
    case.before()
    there = tree(case.under) if case.under.exists() else {}
    ended = warm.run(*case.arguments, under=case.under, limit=limit)
    record_property("full disks", 1)
    if ended.code in (0, 1) and limit > LITTLE:  # it had room enough
        case.check()
        return
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    [line] = [line for line in ended.err.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: ")
    assert (tree(case.under) if case.under.exists() else {}) == there
