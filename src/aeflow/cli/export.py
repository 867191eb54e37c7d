"""The command ``aeflow export``: a trained model as one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Json, Overwrite, Run, app
from aeflow.cli.output import print_json
from aeflow.errors import count
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print


@app.command()
def export(
    run: Run,
    to: Annotated[str, typer.Option(help="onnx or openvino.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the graph, or one file MODEL.aeflow; RUN/onnx or RUN/openvino by default."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a model as one graph, from pixels to scores and maps, after proving that it gives the same scores."""
    from dataclasses import asdict

    from aeflow.backends.registry import of_format

    of_format(to)  # said before torch takes its seconds to import
    with extra("train"):
        from aeflow.deploy.export import export as write

    folder, parity = write(run, to, out, overwrite)
    if as_json:
        print_json({"export": str(folder), "format": to, "parity": asdict(parity)})
        return
    images, flips = count(parity.images, "image"), count(parity.flips, "verdict")
    print(
        f"largest difference of a score from torch: {parity.largest:.2g} standard deviations of "
        f"held-out normals, {flips} flipped, over {images} ({parity.abnormal:,} abnormal)\n"
        f"{'model' if folder.is_file() else 'graph'}: {folder}"
    )
