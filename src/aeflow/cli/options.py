"""The program, and the options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from aeflow.cli.usage import on_one_line
from aeflow.errors import DataError, SettingsError, check_path
from aeflow.privacy import identify, show_typed
from aeflow.runtime.process import check_there

Function = TypeVar("Function", bound=Callable[..., Any])


class PlainFlags:
    """Part of a command whose help shows no type beside a flag, which takes no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, the one for help included."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Command(PlainFlags, TyperCommand):
    """Command with plain flags."""


class Group(PlainFlags, TyperGroup):
    """Group of commands with plain flags, which says on one line what is wrong with how one was called."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Return the context of the group's own arguments."""
        with on_one_line():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Call the command that the arguments name."""
        with on_one_line():
            return super().invoke(ctx)


class Program(typer.Typer):
    """Program whose commands have plain flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=Group, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """Return the decorator of a command."""
        decorator: Callable[[Function], Function] = super().command(name, cls=Command, **settings)
        return decorator


app = Program(
    help="Learn what normal medical images look like, score how abnormal a new one is, and show where.\n\n"
    "Research use, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

datasets = Program(help="Prepare a data folder.", no_args_is_help=True)
app.add_typer(datasets, name="data")


def _typed(paths: Any) -> Any:
    """Let messages name the paths that the user typed; DataError if none of them exists."""
    given = paths if isinstance(paths, list) else [paths]
    show_typed(given)
    if not any(os.path.lexists(path) for path in given):
        raise DataError(given[0], "there is no such file or folder", check_path(given[0]))
    return paths


def _typed_sources(sources: list[str]) -> list[str]:
    """Do as ``_typed`` for the sources that are no URLs."""
    paths = [source for source in sources if "://" not in source]
    if paths:
        _typed(paths)
    return sources


def refuse_swapped(run: Path, others: Sequence[Path], what: str = "images") -> None:
    """Raise SettingsError if a model stands where ``what`` should, and no model where it should."""
    from aeflow.artifacts.layout import is_model

    def readable_model(folder: Path) -> bool:
        try:
            return is_model(folder)
        except PermissionError:  # whoever opens it says so
            return False

    model = next((path for path in others if readable_model(path)), None)
    if model is not None and not readable_model(run):
        raise SettingsError(run, f"is no model, but {model} is one", f"name the model first, then the {what}")


# No path is tried before it is opened (``readable``): what cannot be read is one line, or one image of a batch.
Run = Annotated[
    Path,
    typer.Argument(
        help="Folder of a trained model, or the file of an exported one.", show_default=False, readable=False
    ),
]
Data = Annotated[
    Path, typer.Argument(help="Folder {train,val,test}/{normal,abnormal}/ or with manifest.csv.", readable=False)
]
TrainData = Annotated[
    Path,
    typer.Argument(
        help="Data folder {train,val,test}/{normal,abnormal}/, or one of normal images alone.", readable=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def _device(name: str) -> str:
    check_there(name)
    return name


Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", callback=_device)]
Backend = Annotated[
    str, typer.Option(help="auto, torch, openvino or onnx: auto is the fastest that gives torch's scores.")
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")]

Preset = Annotated[
    str, typer.Option(help="default, large: a larger encoder, paper: as published, or a file that aeflow tune wrote.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting of the preset: NAME=VALUE, repeatable.")
]
Weights = Annotated[
    Path | None, typer.Option(help="The encoder's weights: safetensors or torch state dict.", readable=False)
]


Images = Annotated[
    list[Path],
    typer.Argument(help="Images, or folders of images.", show_default=False, callback=_typed, readable=False),
]
Sources = Annotated[
    list[str],
    typer.Argument(
        help="Images or folders of images; for an archive also tables with a column path, and URLs.",
        show_default=False,
        callback=_typed_sources,
    ),
]
Image = Annotated[Path, typer.Argument(help="One image.", show_default=False, callback=_typed, readable=False)]
Normals = Annotated[
    list[Path],
    typer.Argument(
        help="Local normal images, or folders of them: 20 or more.", show_default=False, callback=_typed, readable=False
    ),
]


def _identify(on: bool) -> bool:
    identify(on)
    return on


Identify = Annotated[
    bool,
    typer.Option("--identify", callback=_identify, help="Show names of files and patients instead of pseudonyms."),
]
