"""The command ``aeflow demo``: the first five minutes, on images that come with the package."""

from __future__ import annotations

import csv
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from aeflow.cli.options import Device, app
from aeflow.cli.output import end
from aeflow.errors import OutputError
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print

SETTINGS: dict[str, Any] = {"region": "lungs", "looks_for": "diffuse"}  # what is known of pneumonia on chest X-rays


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for images, model, table and pictures.")] = Path("aeflow-demo"),
    device: Device = "auto",
) -> None:
    """Train on 100 chest X-rays that come with aeflow, score 24 others, and say what to look at: a minute or two."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(out, "is there already", "name another place with --out, or delete it")
    from aeflow.config import make_settings

    with extra("train"):
        from aeflow.training.train import train
    from aeflow.data.plain_folders import PlainFolders
    from aeflow.data.records import find_images
    from aeflow.datasets.demo_images import CREDIT, KINDS, NEW, NEW_OF_EACH, NORMAL, NORMALS, write_demo_images
    from aeflow.results.pictures import PictureFolder
    from aeflow.results.score_page import ScorePage
    from aeflow.results.score_table import ScoreTable
    from aeflow.scoring.score_files import score_files

    images, model, table, maps, page = (
        out / name for name in ("images", "model", "scores.csv", "maps", "results.html")
    )
    write_demo_images(images)
    started = time.perf_counter()
    trained = train(PlainFolders(images / NORMAL), model, make_settings(**SETTINGS), device=device)
    seconds = time.perf_counter() - started
    scorer = trained.artifact.scorer
    sinks = [ScoreTable(table, maps=True), PictureFolder(maps, scorer), ScorePage(page, scorer)]
    done = score_files(scorer, find_images([images / NEW]), sinks)
    highest, called = _read(table, NEW_OF_EACH)
    normal, ill = KINDS
    high, normal_above, ill_above = highest[ill], called[normal], called[ill]
    print(
        f"Done: in {seconds:.0f} s a model has learnt what {NORMALS} normal chest X-rays look like, and nothing else.\n"
        f"Then it scored {NEW_OF_EACH} others like them and {NEW_OF_EACH} with {ill}: "
        f"{high} of the {NEW_OF_EACH} highest scores are of {ill}.\n"
        f"Above its threshold, which few normal images should exceed, are {normal_above} normal ones "
        f"and {ill_above} with {ill}.\n\n"
        "Look at\n"
        f"  {page}  a page for your browser: images, heat-maps, scores, and a threshold to move\n"
        f"  {table}  one row an image: score, p-value (the share of normal images that score as high), verdict\n"
        f"  {maps}  a picture of each, numbered as the rows: colour shows what adds to its score\n"
        f"  {images}  what it learnt from, and what it scored\n\n"
        "Now with images of your own\n"
        "  aeflow train NORMALS --out RUN                              a folder of 100 or more normal images\n"
        "  aeflow score RUN IMAGES --report results.html               how abnormal others are, and where\n"
        "  aeflow explain RUN IMAGE --out why                          why one of them got its score\n"
        f"This model is a run like any other: {shlex.join(['aeflow', 'info', str(model)])}\n\n"
        f"Images: {CREDIT}. Far too few for any claim about accuracy. Research use, not a medical device."
    )
    for note in trained.notes:
        print(f"note: {note}", file=sys.stderr)
    end(done.refusals)


def _read(table: Path, number: int) -> tuple[Counter[str], Counter[str]]:
    """Return how many images of each kind have the highest scores, and are called abnormal; names begin with kinds."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row["score"]))
    kinds = [Path(row["path"]).name.partition("-")[0] for row in rows]
    called = [kind for kind, row in zip(kinds, rows, strict=True) if row["verdict"] == "abnormal"]
    return Counter(kinds[:number]), Counter(called)
