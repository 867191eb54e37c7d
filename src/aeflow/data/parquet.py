"""Tables in Parquet, read back with all that guards them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 65_536  # of a batch


def schema_of(table: Path) -> pa.Schema:
    """Return a table's columns and what its writer noted; raises OSError or pyarrow.ArrowException if it is none."""
    import pyarrow.parquet as pq

    with _damage_named():
        schema = pq.read_schema(table)
        _ = schema.names  # pyarrow decodes them when they are asked for
    return schema


def batches_of(table: Path, names: Sequence[str] | None = None, rows: int = ROWS) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table in batches: of all columns, or of those of ``names`` that are there.

    Raises OSError or pyarrow.ArrowException if the table is damaged. Pages have checksums where their writer made some;
    the headers of pages, which say how many rows follow, carry none, so rows are counted against what the footer says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _damage_named(), pq.ParquetFile(table, page_checksum_verification=True) as parquet:
        there = parquet.schema_arrow.names
        chosen = there if names is None else [name for name in names if name in there]
        found = 0
        for batch in parquet.iter_batches(rows, columns=chosen) if chosen else ():
            found += batch.num_rows
            yield batch
        if chosen and found != parquet.metadata.num_rows:
            raise pa.ArrowInvalid(f"{found:,} of {parquet.metadata.num_rows:,} rows")


def whole_of(table: Path) -> pa.Table:
    """Return all of a table; raises as ``batches_of``."""
    import pyarrow as pa

    return pa.Table.from_batches(batches_of(table), schema=schema_of(table))


@contextmanager
def _damage_named() -> Iterator[None]:
    """Raise pyarrow.ArrowInvalid for names of columns that are no text, as a flipped bit leaves them."""
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid("the name of a column is no text") from error
