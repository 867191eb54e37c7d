"""Commands that write scores and pictures, in the table of ``writers``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pydicom
from PIL import Image

from aeflow.archive.folder import STATE, ArchiveFolder
from aeflow.archive.plan import Plan
from aeflow.results.score_table import columns
from aeflow.results.table_rows import rows_of
from helpers.command import within
from helpers.data import texture
from helpers.dicom_files import content, dataset
from helpers.nifti_files import nifti
from helpers.writers import (
    IMAGES,
    OLD,
    TORCH,
    Case,
    World,
    old_or_new_set,
    put,
    put_copy,
    tree,
    writer,
)


def rows_in(path: Path) -> int:
    """Return the number of rows of a whole table; raises if it is not whole."""
    if path.suffix == ".parquet":
        return pq.read_table(path).num_rows
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(len(row) == len(columns()) and None not in row.values() for row in rows)
    return len(rows)


def table_of_scores(world: World, name: str) -> Case:
    table, old = world.out / name, world.tmp / f"old-{name}"
    within("score", world.run, *IMAGES[:2], "--out", old, *TORCH)

    def whole_table() -> None:
        assert rows_in(table) in (2, 3)  # the old one, or the new one

    return Case(
        ("score", world.run, *IMAGES[:3], "--out", table, "--overwrite", *TORCH),
        world.out,
        lambda: put(world.out, {name: old.read_bytes()}),
        whole_table,
    )


@writer("score.csv", "score")
def score_csv(world: World) -> Case:
    return table_of_scores(world, "score.csv")


@writer("score.parquet", "score")
def score_parquet(world: World) -> Case:
    return table_of_scores(world, "score.parquet")


def volume(folder: Path, number: int, seed: int) -> Path:
    voxels = np.stack([texture(seed + i) for i in range(3)], axis=-1).astype(np.int16)
    place = folder / f"{number}.nii"
    place.write_bytes(nifti(voxels))
    return place


def xray(folder: Path, number: int, seed: int) -> Path:
    uids = {"StudyInstanceUID": f"1.2.9.{number}", "SOPInstanceUID": f"1.2.9.{number}.{seed}"}
    place = folder / f"{number}.dcm"
    place.write_bytes(content(dataset(texture(seed), SeriesInstanceUID=f"1.2.9.{number}.0", **uids)))
    return place


@writer("studies", "score")
def studies(world: World) -> Case:
    """A table of slices, and beside it that of their studies."""
    sources = [volume(world.tmp, number, 100 * number) for number in range(2)]
    old = world.tmp / "old"
    within("score", world.run, sources[0], "--out", old / "scores.csv", *TORCH)
    table = world.out / "scores.csv"

    def of_one_another() -> None:
        found, beside = rows_in(table), world.out / "scores.studies.csv"
        assert found in (3, 6)
        if beside.exists():  # killed between the two, it is not
            with beside.open(newline="") as file:
                assert [row["images"] for row in csv.DictReader(file)] == ["3"] * (found // 3)

    def both() -> None:
        of_one_another()
        assert (world.out / "scores.studies.csv").exists()

    return Case(
        ("score", world.run, *sources, "--out", table, "--overwrite", *TORCH),
        world.out,
        lambda: put_copy(world.out, old),
        of_one_another,
        both,
    )


@writer("maps", "score")
def maps(world: World) -> Case:
    old = world.tmp / "old"
    within("score", world.run, IMAGES[5], IMAGES[6], IMAGES[7], "--maps", old, *TORCH)
    known = tree(old)
    return Case(
        ("score", world.run, *IMAGES[:2], "--maps", world.out, "--overwrite", *TORCH),
        world.out,
        lambda: put(world.out, {**known, "notes.txt": OLD}),
        lambda: old_or_new_set(world.out, ".png", known, lambda seen: seen.keys() == {"00001.png", "00002.png"}),
    )


@writer("dicom", "score", long=True)
def dicom(world: World) -> Case:
    old = world.tmp / "old"
    within("score", world.run, xray(world.tmp, 1, 71), "--dicom", old, *TORCH)
    known, sources = tree(old), [xray(world.tmp, number, 72) for number in (2, 3)]

    def whole_objects(seen: dict[str, bytes]) -> bool:
        for name in seen:
            pydicom.dcmread(world.out / name)
        return len(seen) == 2 * len(known)

    return Case(
        ("score", world.run, *sources, "--dicom", world.out, "--overwrite", *TORCH),
        world.out,
        lambda: put(world.out, {**known, "notes.txt": OLD}),
        lambda: old_or_new_set(world.out, ".dcm", known, whole_objects),
    )


@writer("nifti", "score")
def nifti_maps(world: World) -> Case:
    old = world.tmp / "old"
    within("score", world.run, volume(world.tmp, 1, 700), "--nifti", old, *TORCH)
    known, sources = tree(old), [volume(world.tmp, number, 800 + number) for number in (2, 3)]

    def whole_maps(seen: dict[str, bytes]) -> bool:
        volumes = [name for name in seen if ".nii" in name]
        assert all(nibabel.load(world.out / name).get_fdata().shape == (64, 64, 3) for name in volumes)
        return len(seen) >= 2

    return Case(
        ("score", world.run, *sources, "--nifti", world.out, "--overwrite", *TORCH),
        world.out,
        lambda: put(world.out, {**known, "notes.txt": OLD}),
        lambda: old_or_new_set(world.out, ".gz", known, whole_maps),
    )


def check_archive(folder: Path, files: int) -> None:
    """Assert that each part is whole, that one said to be complete is, and that no file has two rows."""
    rows = [row["path"] for part in ArchiveFolder(folder).parts() for row in rows_of(part, ["path"])]
    assert len(rows) == len(set(rows)) <= files
    state = folder / STATE
    if state.exists():
        opened = ArchiveFolder.opened(folder)
        assert opened.state is not None
        for number, revision in enumerate(opened.state.revisions, 1):
            if revision.complete and not opened.state.replaced:
                assert (
                    opened.there(number)
                    == set(range(revision.parts))
                    == set(range(len(Plan(opened.plan(number), revision.plan))))
                )
    else:
        ArchiveFolder.opened(folder)  # it may be begun anew


def check_whole_archive(folder: Path, files: int) -> None:
    """Assert that an archive is complete, and that nothing else lies there."""
    assert json.loads((folder / STATE).read_text())["complete"]
    check_archive(folder, files)
    assert sum(1 for part in ArchiveFolder(folder).parts() for _ in rows_of(part, ["path"])) == files
    (folder / STATE).unlink()
    ArchiveFolder.opened(folder)  # refuses anything that no archive has


@writer("archive", "score", long=True)
def archive(world: World) -> Case:
    """An archive that takes the place of another one, of which nothing may stay."""
    model, old = world.exports("openvino"), world.tmp / "old"
    within("score", model, *IMAGES[5:8], "--out", old)
    return Case(
        ("score", model, *IMAGES[:3], "--out", world.out, "--overwrite"),
        world.out,
        lambda: put_copy(world.out, old),
        lambda: check_archive(world.out, 3),
        at_the_end=lambda: check_whole_archive(world.out, 3),
        program="helpers.steps:archive_in_parts_of_one",
        needs_room=False,
    )


@writer("archive, since", "score", long=True)
def archive_since(world: World) -> Case:
    """An archive that grows, with studies of slices; what it had stays."""
    model, old, images = world.exports("openvino"), world.tmp / "old", world.tmp / "images"
    images.mkdir()
    volume(images, 1, 900)
    within("score", model, images, "--out", old)
    for number in range(2):
        Image.fromarray(texture(910 + number)).save(images / f"{number}.png")
    first = (old / "part-0001-000000.parquet").read_bytes()

    def the_old_and_more() -> None:
        assert (world.out / "part-0001-000000.parquet").read_bytes() == first
        parts = ArchiveFolder(world.out).parts()
        rows = [(row["path"], row["slice"]) for part in parts for row in rows_of(part, ["path", "slice"])]
        assert 3 <= len(rows) == len(set(rows)) <= 5

    def whole() -> None:
        the_old_and_more()
        check_names = ArchiveFolder.opened(world.out)
        assert check_names.state is not None
        assert check_names.state.complete
        assert len(check_names.parts()) == 3
        (world.out / STATE).unlink()
        ArchiveFolder.opened(world.out)

    return Case(
        ("score", model, images, "--out", world.out, "--since"),
        world.out,
        lambda: put_copy(world.out, old),
        the_old_and_more,
        at_the_end=whole,
        says_what_it_found=True,
        program="helpers.steps:archive_in_parts_of_one",
        needs_room=False,
    )
