"""Table of scores as a DataFrame of pandas, which only this module imports."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from aeflow.data.records import Record
from aeflow.imageio.errors import ImageError
from aeflow.results.score_table import columns, score_row
from aeflow.scoring.scorer import Score


def score_frame(results: Iterable[tuple[Record, Score | ImageError]]) -> pd.DataFrame:
    """Return the rows of scores.csv, with the types that pandas gives their columns when it reads the file.

    But columns of text are always text: also one whose cells are all empty, or a pseudonym of digits alone.
    """
    rows = [score_row(record, result) for record, result in results]
    return pd.DataFrame({name: _column([row[name] for row in rows], kind) for name, kind in columns().items()})


def _column(cells: list[object], kind: str) -> pd.Series:
    """Return a column; ``kind`` is its type in Parquet, and whole numbers with gaps among them are floats in pandas."""
    if kind == "string":
        return pd.Series([cell or None for cell in cells], dtype=str)
    whole = kind.startswith("int") and None not in cells
    return pd.Series(cells, dtype="int64" if whole else "float64")
