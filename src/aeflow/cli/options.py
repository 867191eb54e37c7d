"""The program, and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aeflow.privacy import identify

app = typer.Typer(
    help="Learn what normal medical images look like, score how abnormal a new one is, and show where.\n\n"
    "Research use, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

datasets = typer.Typer(help="Prepare a data folder.", no_args_is_help=True)
app.add_typer(datasets, name="data")

Run = Annotated[Path, typer.Argument(help="Folder of a trained model.", show_default=False)]
Data = Annotated[Path, typer.Argument(help="Folder {train,val,test}/{normal,abnormal}/ or with manifest.csv.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Backend = Annotated[
    str, typer.Option(help="auto, torch, openvino or onnx: auto is the fastest that gives torch's scores.")
]

Preset = Annotated[
    str, typer.Option(help="default, large: a larger encoder, paper: as published, or a file that aeflow tune wrote.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting of the preset: NAME=VALUE, repeatable.")
]
Weights = Annotated[Path | None, typer.Option(help="The encoder's weights: safetensors or torch state dict.")]


def _identify(on: bool) -> bool:
    identify(on)
    return on


Identify = Annotated[
    bool,
    typer.Option("--identify", callback=_identify, help="Show names of files and patients instead of pseudonyms."),
]
