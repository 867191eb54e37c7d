"""The commands ``aeflow data``: splits of a data folder, and data folders from public data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aeflow.cli.options import Identify, datasets
from aeflow.errors import SettingsError, count
from aeflow.runtime.terminal import print

if TYPE_CHECKING:
    from aeflow.data.records import Record


@datasets.command("split")
def data_split(
    data: Annotated[Path, typer.Argument(help="Folder {normal,abnormal,unlabelled}/ or with manifest.csv.")],
    out: Annotated[Path, typer.Option(help="Manifest to write; put it into DATA as manifest.csv.")],
    val: Annotated[float, typer.Option(help="Share of the images for validation; 0 for none.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the images for the test.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
    identify: Identify = False,
) -> None:
    """Split images that have no split, whole patients each, and write a manifest."""
    from aeflow.data.manifest import write_split

    fractions = {"train": 1 - val - test, "val": val, "test": test}
    splits = write_split(data, out, {name: share for name, share in fractions.items() if share}, seed)
    _print_splits(splits)
    print(f"manifest: {out}")


@datasets.command("prepare")
def data_prepare(
    name: Annotated[str | None, typer.Argument(help="Data set; all are listed without it.", show_default=False)] = None,
    folder: Annotated[Path | None, typer.Argument(help="Its unpacked download.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Data folder to make: manifest, terms, link to the images.")] = None,
    allow_counts: Annotated[
        bool, typer.Option("--allow-counts", help="Continue although counts are not as published.")
    ] = False,
    identify: Identify = False,
) -> None:
    """Turn the download of a public data set into a data folder, with its published split; without NAME, list them."""
    from aeflow.datasets import prepare
    from aeflow.datasets.catalog import RECIPES
    from aeflow.datasets.prepare import terms
    from aeflow.datasets.recipe import summary

    if name is None:
        print("\n".join(summary(key, recipe) for key, recipe in RECIPES.items()))
        return
    if name not in RECIPES:
        raise SettingsError("data set", f"{name!r} is not known", f"name one of {', '.join(RECIPES)}")
    if folder is None or out is None:
        raise SettingsError(name, "no download or no --out", f"aeflow data prepare {name} FOLDER --out DATA")
    prepared = prepare(RECIPES[name], folder, out, allow_counts)
    _print_splits(prepared.splits)
    print(f"{terms(RECIPES[name], prepared)}\ndata: {out}")


def _print_splits(splits: dict[str, list[Record]]) -> None:
    from aeflow.data.folder_files import LABELS

    for name, records in splits.items():
        numbers = (f"{sum(r.label == label for r in records)} {word}" for word, label in LABELS.items())
        patients = count(len({record.patient for record in records}), "patient")
        print(f"{name:5} {', '.join(numbers)} {'image' if len(records) == 1 else 'images'} of {patients}")
