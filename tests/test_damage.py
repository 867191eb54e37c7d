"""One flipped bit in any file that is ever read back: noticed, and made anew or refused, but never used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from aeflow.archive.folder import STATE, ArchiveFolder, Revision, State, read_state
from aeflow.archive.former import FormerFiles
from aeflow.archive.item import Item
from aeflow.archive.plan import Plan, write_plan
from aeflow.artifacts.exported_graph import load_export
from aeflow.artifacts.layout import EPOCH_SCORES, HISTORY, OF_EXPORT, history_of, read_metadata
from aeflow.artifacts.reference_normals import NORMALS, ReferenceNormals
from aeflow.artifacts.run import load_run
from aeflow.data.records import read_records
from aeflow.drift.score_rows import read_columns
from aeflow.errors import ArtifactError, DataError
from aeflow.features.cache import FeatureCache
from aeflow.model.encoder import Encoder
from aeflow.results.score_table import arrow_table
from aeflow.results.table_rows import rows_of
from aeflow.runtime.cache import seal, verify
from aeflow.runtime.files import file_digest
from aeflow.runtime.one_file import packed
from aeflow.training import checkpoint
from aeflow.training.train import Trained
from helpers.command import within
from helpers.damage import flip, flips, pages_of
from helpers.data import SIZE, TINY

FEW = 3  # flips of each file in the ordinary tests
MANY = pytest.param(400, marks=pytest.mark.torture)
Record = Callable[[str, object], None]


@pytest.mark.parametrize("number", [FEW, MANY])
@pytest.mark.parametrize("name", ["features.npy", "pixels.npy", "images.json", "about.json"])
def test_cached_features_heal(
    data: Path, tmp_path: Path, name: str, number: int, capsys: pytest.CaptureFixture[str], record_property: Record
) -> None:
    torch.manual_seed(0)
    encoder, records = Encoder(TINY, (2, 3)), read_records(data, "train")[:4]
    cache = FeatureCache(encoder, SIZE, tmp_path)
    want, _ = cache.features(records)
    before = want.vectors()
    for seed in range(number):
        [shard] = cache.folder.glob("shard-*")
        flip(shard / name, seed)
        healed, _ = FeatureCache(encoder, SIZE, tmp_path).features(records)
        assert (healed.vectors() == before).all()
        assert capsys.readouterr().err.startswith("note: a part of the cache is damaged, and made anew")
    record_property("flips in the cache", number)


@pytest.mark.parametrize("number", [FEW, MANY])
def test_a_checkpoint_is_refused(tmp_path: Path, number: int, record_property: Record) -> None:
    layer = torch.nn.Linear(20, 20)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 20)).sum().backward()
    optimizer.step()
    state, task = dict(layer.state_dict()), {"settings": {"seed": 1}}
    checkpoint.save_checkpoint(tmp_path, task, checkpoint.Progress(epoch=1), state, state, optimizer)
    checkpoint.check_checkpoint(tmp_path, task)
    for _ in flips(tmp_path / checkpoint.CHECKPOINT, number):
        with pytest.raises(ArtifactError, match=r"damaged checkpoint .*; train from the start with --overwrite"):
            checkpoint.check_checkpoint(tmp_path, task)
    record_property("flips in a checkpoint", number)


@pytest.mark.parametrize("number", [FEW, MANY])
@pytest.mark.parametrize("name", ["model.json", "model.safetensors", NORMALS, HISTORY, EPOCH_SCORES])
def test_a_run_is_refused(
    aeflow_1: tuple[Path, Trained], tmp_path: Path, name: str, number: int, record_property: Record
) -> None:
    run = Path(shutil.copytree(aeflow_1[0], tmp_path / "run"))
    width = len(aeflow_1[1].artifact.input_guard.mean)
    reads: dict[str, Callable[[], object]] = {
        NORMALS: lambda: ReferenceNormals.load(run, width),
        HISTORY: lambda: history_of(run, read_metadata(run)),
        EPOCH_SCORES: lambda: history_of(run, read_metadata(run)),
    }
    read = reads.get(name, lambda: load_run(run))
    read()
    means = read_metadata(run)
    for _ in flips(run / name, number):
        try:
            read()
        except ArtifactError:
            continue
        assert name == "model.json"  # a number whose last digit or letter e says the same
        assert read_metadata(run) == means
    record_property("flips in a run", number)


@pytest.mark.parametrize("number", [FEW, MANY])
def test_an_export_is_refused(exported_run: Path, tmp_path: Path, number: int, record_property: Record) -> None:
    export = Path(shutil.copytree(exported_run, tmp_path / "export"))
    for path in sorted(export.iterdir()):
        for _ in flips(path, number):
            with pytest.raises(ArtifactError):
                load_export(export)
        record_property("flips in an export", number)


@pytest.mark.parametrize("number", [FEW, MANY])
def test_a_compiled_graph_heals(
    openvino_export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    capsys: pytest.CaptureFixture[str],
    record_property: Record,
) -> None:
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "cache"))
    load_export(openvino_export)
    [place] = (tmp_path / "cache" / "graphs").iterdir()
    for name in ("compiled.bin", "about.json"):
        for seed in range(number):
            flip(place / name, seed)
            load_export(openvino_export)  # which tries its test images
            assert capsys.readouterr().err.startswith("note: a part of the cache is damaged, and made anew")
        record_property("flips in the cache", number)


@pytest.mark.parametrize("number", [20, MANY])
def test_an_export_in_one_file_is_refused(
    openvino_export: Path, tmp_path: Path, number: int, record_property: Record
) -> None:
    names = [name for name in OF_EXPORT if (openvino_export / name).exists()]
    one_file = tmp_path / "MODEL.aeflow"
    one_file.write_bytes(packed({name: (openvino_export / name).read_bytes() for name in names}))
    whole = one_file.read_bytes()
    for _ in flips(one_file, number):
        with pytest.raises(ArtifactError, match=r"MODEL\.aeflow: damaged: .*; export it again$"):
            load_export(one_file)
    for length in (0, 1, 30, 100, len(whole) // 2, len(whole) - 1):
        one_file.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match=r"MODEL\.aeflow: damaged: .*; export it again$"):
            load_export(one_file)
    record_property("flips in an export", number)


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveFolder:
    """An archive of two files, as it is on the disk."""
    items = [Item(f"images/{i}.png", f"/images/{i}.png", bytes=1000 + i, version=f"{i}") for i in range(2)]
    found = ArchiveFolder(tmp_path)
    write_plan(items, found.plan(1))
    plan = file_digest(found.plan(1))
    revision = Revision(sources=["images"], folders=["images"], files=2, parts=1, plan=plan, complete=True)
    found.state = State(task={"model": "0123", "threshold": 1.25}, revisions=[revision])
    found.write_state()
    rows = [{"path": item.name, "score": 0.1 + i, "sha256": f"{i:064}"} for i, item in enumerate(items)]
    found.write_part(1, 0, arrow_table(rows, {"path": "string", "score": "float64", "sha256": "string"}))
    return found


@pytest.mark.parametrize("number", [20, MANY])
def test_the_state_of_an_archive_is_refused(archive: ArchiveFolder, number: int, record_property: Record) -> None:
    whole = read_state(archive.path)
    for _ in flips(archive.path / STATE, number):
        try:
            found = read_state(archive.path)
        except ArtifactError:
            continue
        assert found == whole  # a number whose letter e says the same
    record_property("flips in an archive", number)


@pytest.mark.parametrize("number", [20, MANY])
def test_the_plan_of_an_archive_is_refused(archive: ArchiveFolder, number: int, record_property: Record) -> None:
    assert archive.state is not None
    digest = archive.state.revisions[0].plan
    assert len(Plan(archive.plan(1), digest)) == 1
    for _ in flips(archive.plan(1), number):
        with pytest.raises(ArtifactError, match="the plan is missing or damaged; score all again with --overwrite"):
            Plan(archive.plan(1), digest)
    record_property("flips in an archive", number)


@pytest.mark.parametrize("number", [20, MANY])
def test_the_cells_of_a_part_of_an_archive_are_refused(
    archive: ArchiveFolder, number: int, record_property: Record
) -> None:
    """By whoever reads it: the end of the archive, `aeflow drift`, and the next --since."""
    [part] = archive.parts()
    reads: list[Callable[[], object]] = [
        lambda: list(rows_of(part, ["path", "score", "sha256"])),
        lambda: read_columns(part, ["path"]),
    ]
    for read in reads:
        whole = read()
        for _ in flips(part, number, until=pages_of(part)):
            try:
                found = read()
            except (ArtifactError, DataError):
                continue
            assert found == whole  # in the header of a page there is what no reader needs
        record_property("flips in an archive", number)


@pytest.mark.parametrize("number", [FEW * 10, MANY])
def test_what_lies_after_the_cells_of_a_part_may_be_taken_for_another_and_breaks_nothing(
    archive: ArchiveFolder, number: int
) -> None:
    """The format has no checksum there: most flips are refused, and none ends a reader in any other way."""
    [part] = archive.parts()
    reads: list[Callable[[], object]] = [
        lambda: list(rows_of(part, ["path", "score", "sha256"])),
        lambda: read_columns(part, ["path"]),
        lambda: FormerFiles([part]),
    ]
    for _ in flips(part, number, begin=pages_of(part)):
        for read in reads:
            with suppress(ArtifactError, DataError):
                read()


def test_damaged_weights_are_refused_although_a_graph_lies_there(
    tiny_run: Path, openvino_export: Path, data: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.copytree(openvino_export, run / "openvino")
    image = next((data / "test" / "normal").iterdir())
    within("score", run, image)
    for _ in flips(run / "model.safetensors", 1):
        out, error = within("score", run, image, ok=2)
        assert (out, error.count("\n")) == ("", 1)
        assert "model.safetensors: damaged, or of another run (checksum differs); restore it, or train again" in error


def test_a_seal_covers_each_file_and_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    (tmp_path / "b").write_text("second")
    seal(tmp_path, "two words")
    verify(tmp_path, "a", "b")
    for name in ("a", "about.json"):
        for _ in flips(tmp_path / name, 20):
            with pytest.raises((ValueError, OSError)):
                verify(tmp_path, "a", "b")
    (tmp_path / "c").write_text("third")
    with pytest.raises(ValueError, match="c: checksum differs"):
        verify(tmp_path, "c")
