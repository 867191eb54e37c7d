"""Commands that write models, data folders and the cache, in the table of ``writers``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from aeflow.artifacts.layout import OF_EXPORT, OF_TRAINING, RESULTS, read_export
from aeflow.artifacts.run import load_run
from aeflow.data.records import read_records
from aeflow.features.cache import FeatureCache
from aeflow.model.encoder import Encoder
from aeflow.runtime.cache import ABOUT, entries, verify
from aeflow.runtime.files import PART, file_digest
from aeflow.runtime.folders import NEXT, current
from aeflow.runtime.one_file import packed
from aeflow.tuning.tune import PAGE, PRESET, RESULT
from helpers import public_sets
from helpers.data import SIZE, TINY
from helpers.writers import OLD, Case, World, all_old_or_all_new, put, put_copy, tree, writer

SMALL = {"image_size": 64, "hidden": 16, "flow_steps": 2, "epochs": 1, "batch_size": 8, "stages": "3"}
CPU = ("--device", "cpu")


def trained(world: World, out: Path) -> tuple[object, ...]:
    """Return the words of a short training."""
    sets = [text for key, value in SMALL.items() for text in ("--set", f"{key}={value}")]
    of_encoder = ("--encoder", TINY, "--encoder-weights", world.weights)
    return ("train", world.data, "--out", out, *of_encoder, *sets, "--overwrite", "--no-graph", *CPU)


@writer("train", "train")
def train(world: World) -> Case:
    out = world.out
    before = {**dict.fromkeys((*OF_TRAINING[:-2], *RESULTS), OLD), **{f"val/{name}": OLD for name in RESULTS}}

    def one_model() -> None:
        if (current(out) / "model.json").read_bytes() != OLD:
            load_run(out)
        unfinished = out / "checkpoint.safetensors"
        if unfinished.exists():  # of the new training, which has not come to its end
            assert (out / "model.json").read_bytes() == OLD
            unfinished.unlink()
        all_old_or_all_new(out, before, {"model.json", "model.safetensors", "normals.safetensors"})

    return Case(
        trained(world, out),
        out,
        lambda: put(out, {**before, "notes.txt": OLD}),
        one_model,
    )


@writer("recalibrate", "recalibrate", long=True)
def recalibrate(world: World) -> Case:
    out = world.out

    def a_model_or_none() -> None:
        if out.exists() and current(out).joinpath("model.json").exists():
            load_run(out)
        elif out.exists():
            assert tree(out) == {}

    arguments = ("recalibrate", world.run, world.data / "train" / "normal", "--out", out, *CPU)
    return Case(arguments, out, lambda: shutil.rmtree(out, ignore_errors=True), a_model_or_none)


@writer("tune", "tune", long=True)
def tune(world: World) -> Case:
    """A search of one training: what is there is a search that goes on, or its results."""
    out = world.out

    def results_together() -> None:
        there = [name for name in (PRESET, RESULT, PAGE) if (current(out) / name).exists()]
        assert there in ([], [PRESET, RESULT, PAGE])
        for name in there[:2]:
            json.loads((current(out) / name).read_text())

    small = [f"{name}={value}" for name, value in (SMALL | {"encoder": TINY, "updates": 2}).items() if name != "epochs"]
    return Case(
        (world.data, out, world.weights, *small),
        out,
        lambda: shutil.rmtree(out, ignore_errors=True),
        results_together,
        program="helpers.steps:tune_one_trial",
        needs_room=False,
    )


def files_of_export(world: World) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in world.exports("onnx").iterdir()}


@writer("export", "export", long=True)
def export(world: World) -> Case:
    out, files = world.out, files_of_export(world)

    def an_export() -> None:
        found = read_export(out)
        for file, digest in found["files"].items():
            assert file_digest(current(out) / file) == digest
        assert (out / "export.json").is_file()
        assert (out / "notes.txt").read_bytes() == OLD

    arguments = ("export", world.run, "--to", "openvino", "--out", out, "--overwrite")
    return Case(arguments, out, lambda: put(out, {**files, "notes.txt": OLD}), an_export)


@writer("one file", "export", long=True)
def one_file(world: World) -> Case:
    model, files = world.out / "MODEL.aeflow", files_of_export(world)
    one = packed({name: files[name] for name in OF_EXPORT if name in files})

    def a_whole_file() -> None:
        read_export(model)
        assert (world.out / "notes.txt").read_bytes() == OLD

    arguments = ("export", world.run, "--to", "openvino", "--out", model)
    return Case(arguments, world.out, lambda: put(world.out, {"MODEL.aeflow": one, "notes.txt": OLD}), a_whole_file)


@writer("split", "data split")
def split(world: World) -> Case:
    unsplit, manifest = world.tmp / "unsplit", world.out / "manifest.csv"
    for i in range(40):
        (unsplit / "normal").mkdir(parents=True, exist_ok=True)
        (unsplit / "normal" / f"{i:02}.png").write_bytes(b"")

    def a_manifest_or_none() -> None:
        if manifest.exists():
            assert manifest.read_text().count("\n") == 41

    arguments = ("data", "split", unsplit, "--out", manifest)
    return Case(arguments, world.out, lambda: put(world.out, {"notes.txt": OLD}), a_manifest_or_none)


@writer("prepare", "data prepare")
def prepare(world: World) -> Case:
    out, download = world.out, world.tmp / "download"
    public_sets.mvtec(download)
    whole = {"manifest.csv", "SOURCE.md", "images"}

    def a_data_folder_or_none() -> None:
        if (out / "manifest.csv").exists():
            assert len(read_records(out)) == 9
        if out.exists():
            unfinished = {f"{name}{PART}" for name in whole if (out / NEXT).exists()}  # which the next command ends
            assert {path.name for path in out.iterdir() if path.name[0] != "."} <= whole | unfinished

    arguments = ("data", "prepare", "mvtec", download, "--out", out, "--allow-counts")
    return Case(arguments, out, lambda: shutil.rmtree(out, ignore_errors=True), a_data_folder_or_none)


def check_cache(root: Path) -> None:
    """Assert that each part that has its name is whole."""
    for entry in entries(root):
        if entry.kind != "unfinished":
            for folder in entry.folders:
                verify(folder, *json.loads((folder / ABOUT).read_text())["files"])


def filled(world: World, cache: Path) -> None:
    """Fill a cache with features of some images."""
    FeatureCache(Encoder(TINY, (2, 3)), SIZE, cache).features(read_records(world.data, "test"))


@writer("cache", "train", long=True)
def cache(world: World) -> Case:
    """The cache, in which new features push out former ones, since it has a limit."""
    old = world.tmp / "old"
    filled(world, old)
    return Case(
        trained(world, world.tmp / "new"),
        world.out,
        lambda: put_copy(world.out, old),
        lambda: check_cache(world.out),
        variables={"AEFLOW_CACHE": str(world.out), "AEFLOW_CACHE_LIMIT": "0.1MB"},
        needs_room=False,  # without a cache it trains all the same
    )


@writer("cache clear", "cache clear")
def cache_clear(world: World) -> Case:
    old = world.tmp / "old"
    filled(world, old)

    def nothing_is_left() -> None:
        assert entries(world.out) == []

    return Case(
        ("cache", "clear", "--yes"),
        world.out,
        lambda: put_copy(world.out, old),
        lambda: check_cache(world.out),
        at_the_end=nothing_is_left,
        says_what_it_found=True,
        variables={"AEFLOW_CACHE": str(world.out)},
        needs_room=False,  # it writes no byte
    )
