"""The graph that scores faster and without torch, put into a model that was just made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aeflow.errors import ArtifactError
from aeflow.runtime.terminal import print

Graph = Annotated[
    bool,
    typer.Option("--graph/--no-graph", help="Put into the model the graph that scores faster and without torch."),
]


def add_graph(run: Path) -> None:
    """Export the graph that scores fastest into the run; a note says why there is none."""
    from aeflow.deploy.export import export
    from aeflow.deploy.open_model import AUTO_FORMAT

    try:
        export(run, AUTO_FORMAT)
    except ArtifactError as error:
        print(f"note: no graph is in the model: {error}", file=sys.stderr)
    except KeyboardInterrupt as stop:
        stop.add_note(f"the model in {run} is complete, without the graph that scores faster")
        raise
