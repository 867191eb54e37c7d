"""The command ``aeflow explain``: the reasons for the score of one image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Device, Identify, Image, Json, Overwrite, Run, app, refuse_swapped
from aeflow.cli.output import print_json
from aeflow.errors import printable
from aeflow.runtime.terminal import print


@app.command()
def explain(
    run: Run,
    image: Image,
    out: Annotated[Path, typer.Option(help="Folder for explain.png and explain.json.")],
    slice_number: Annotated[int | None, typer.Option("--slice", help="Of a volume, from 1.")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Show why an image got its score: its terms, its map, and the train normals that are most like it.

    The picture has the image; its reconstruction, which is how the network draws it back from what it saw; where the
    model's own synthetic anomalies vanish in it, a healthy counterpart: how the image would look if it were normal;
    the anomaly map; and below the train normals nearest to the image, and generated normals nearest to the
    reconstruction.
    """
    from aeflow.api import load
    from aeflow.reporting.p_value import p_words
    from aeflow.results.explanation_files import check

    refuse_swapped(run, [image])
    check(out, image, overwrite)  # before the model is read
    model = load(run, device)
    found = model.explain(image, out, slice_number, overwrite)
    if as_json:
        print_json(found.to_json())
        return
    p = p_words(found.score.p_value, found.score.smallest_p, ".4f")
    print(f"{found.score.verdict}  score {found.score.value:.3f}  p {p}\n{found.finding}")
    for reading in found.readings:
        print(f"  {reading}")
    if found.score.outside:
        print(f"outside intended input: {', '.join(found.score.outside)}; do not rely on this score")
    if found.score.posterior:
        print("posterior: " + ", ".join(f"{printable(kind)} {p:.0%}" for kind, p in found.score.posterior.items()))
    if found.beside is not None and found.beside.normals:
        distances = ", ".join(f"{normal.distance:.3g}" for normal in found.beside.normals)
        print(f"distance from the train normals most like it: {distances}{_usual(found.beside.usual_distance)}")
    below = "" if found.beside is None else " (below: the nearest train normals, and the nearest generated ones)"
    print(f"picture: {out / 'explain.png'}{below}")
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)


def _usual(distance: float | None) -> str:
    """Return how near train normals are to one another, to compare with."""
    return "" if distance is None else f"; a train normal is usually {distance:.3g} from the nearest other one"
