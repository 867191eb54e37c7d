"""Commands that write pages and reports, in the table of ``writers``."""

from __future__ import annotations

import json

from PIL import Image

from aeflow.artifacts.layout import RESULTS
from helpers.command import within
from helpers.writers import IMAGES, OLD, TORCH, Case, World, all_old_or_all_new, put, writer


@writer("report", "score", long=True)
def report(world: World) -> Case:
    page = world.out / "scores.html"
    within("score", world.run, IMAGES[5], "--report", world.tmp / "old.html", *TORCH)
    former = (world.tmp / "old.html").read_bytes()

    def a_whole_page() -> None:
        content = page.read_bytes()
        assert content == former or (content.endswith(b"</html>\n") and content.count(b"data:image/jpeg") == 3)

    return Case(
        ("score", world.run, *IMAGES[:3], "--report", page, "--overwrite", *TORCH),
        world.out,
        lambda: put(world.out, {"scores.html": former}),
        a_whole_page,
    )


@writer("explain", "explain")
def explain(world: World) -> Case:
    return replaced_together(world, ("explain", world.run, IMAGES[0]), {"explain.png", "explain.json"})


@writer("audit", "audit")
def audit(world: World) -> Case:
    return replaced_together(world, ("audit", world.data), {"audit.html", "audit.json"})


def replaced_together(world: World, arguments: tuple[object, ...], names: set[str]) -> Case:
    before = dict.fromkeys(names, OLD)
    return Case(
        (*arguments, "--out", world.out, "--overwrite"),
        world.out,
        lambda: put(world.out, {**before, "notes.txt": OLD}),
        lambda: all_old_or_all_new(world.out, before, names),
        codes=(0, 1),  # an audit finds something
    )


@writer("evaluate", "evaluate", long=True)
def evaluate(world: World) -> Case:
    before = dict.fromkeys(RESULTS, OLD)
    least = {"metrics.json", "scores.csv", "scores.parquet", "report.html", "model_card.md", "plots/roc.png"}
    return Case(
        ("evaluate", world.run, world.data, "--out", world.out, "--overwrite", *TORCH),
        world.out,
        lambda: put(world.out, {**before, "notes.txt": OLD}),
        lambda: all_old_or_all_new(world.out, before, least),
    )


@writer("drift", "drift")
def drift(world: World) -> Case:
    """The page of a comparison, in the place of a former one."""
    table, old = world.tmp / "scores.csv", world.tmp / "old.html"
    within("score", world.run, world.data / "test" / "normal", "--out", table, *TORCH)
    within("drift", world.run, table, "--report", old)
    page, former = world.out / "drift.html", old.read_bytes().replace(b"</html>", b"former</html>")

    def a_whole_page() -> None:
        content = page.read_bytes()
        assert content == former or (content.endswith(b"</html>\n") and b"former" not in content)

    return Case(
        ("drift", world.run, table, "--report", page, "--overwrite"),
        world.out,
        lambda: put(world.out, {"drift.html": former}),
        a_whole_page,
    )


@writer("bench", "bench", long=True)
def bench(world: World) -> Case:
    """The table of times, in the place of a former one."""
    place, images = world.out / "bench.json", world.tmp / "images"
    images.mkdir()
    Image.open(IMAGES[0]).save(images / "one.png")
    former = {"former": True}

    def whole_figures() -> None:
        found = json.loads(place.read_text())
        assert found == former or "stages" in found

    return Case(
        ("bench", world.run, "--images", images, "--out", place, "--overwrite", *TORCH),
        world.out,
        lambda: put(world.out, {"bench.json": json.dumps(former).encode()}),
        whole_figures,
    )
