"""Table of scores as a DataFrame of pandas, which only this module imports."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pandas as pd

from aeflow.data.records import Record
from aeflow.imageio.errors import ImageError
from aeflow.results.score_table import columns, csv_rows, score_row
from aeflow.scoring.scorer import Score


def score_frame(results: Iterable[tuple[Record, Score | ImageError]]) -> pd.DataFrame:
    """Return the rows of scores.csv as pandas reads them, every figure to its last bit.

    Columns of text are always text: not a number if a pseudonym has digits alone, nor if all of their cells are empty.
    """
    file = io.BytesIO()
    with csv_rows(file) as write:
        for record, result in results:
            write(score_row(record, result))
    file.seek(0)
    text = {name: str for name, kind in columns().items() if kind == "string"}
    return pd.read_csv(file, dtype=text, keep_default_na=False, na_values=[""], float_precision="round_trip")
