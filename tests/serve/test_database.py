"""The tables are those that the migrations make, a transaction is whole, and the suggestions are unlike one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from aeflow.errors import ArtifactError, SettingsError
from aeflow.serve import audit
from aeflow.serve.database import Database
from aeflow.serve.labels import mask_of
from aeflow.serve.suggestions import most_valuable
from aeflow.serve.tables import audit as events
from aeflow.serve.tables import metadata


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "worklist.db")


def test_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_database_that_is_open_already_is_not_made_anew(tmp_path: Path, database: Database) -> None:
    with database.writing() as connection:
        audit.record(connection, "ada", "saw", "x")
    with Database(tmp_path / "worklist.db").reading() as connection:
        assert audit.verify(connection).events == 1


def test_what_ends_in_an_error_leaves_nothing(database: Database) -> None:
    def fails() -> None:
        with database.writing() as connection:
            audit.record(connection, "ada", "saw", "x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    with database.reading() as connection:
        assert connection.execute(select(events)).all() == []


def test_a_file_that_is_no_worklist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(ArtifactError, match="cannot be opened as a worklist"):
        Database(tmp_path / "other.db")


@pytest.mark.parametrize("address", ["mysql://somewhere/x", "nonsense", "sqlite:///x.db"])
def test_another_kind_of_database_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="postgresql"):
        Database(address)


def test_a_mask_marks_its_region_and_nothing_else() -> None:
    mask = mask_of([(0.25, 0.5, 0.5, 1.0), (0.99, 0.0, 0.995, 0.001)], 100, 200)
    assert mask[50:, 50:100].all()
    assert mask[0, 198]
    assert (mask > 0).sum() == 50 * 50 + 1


def test_suggestions_are_near_the_boundary_and_unlike_one_another() -> None:
    rng = np.random.default_rng(0)
    crowd, alone = rng.normal(0, 0.01, (50, 8)), rng.normal(3, 0.01, (1, 8))
    vectors = np.concatenate([crowd, alone]).astype(np.float32)
    p = np.full(51, 0.05)
    assert 50 in most_valuable(p, vectors, vectors[:1], 0.05, 2)  # the crowd is labelled already
    normal = p.copy()
    normal[:50:2] = 1.0
    assert all(row % 2 or row == 50 for row in most_valuable(normal, vectors, vectors[:0], 0.05, 3))
    assert len(set(most_valuable(p, vectors, vectors[:0], 0.05, 60))) == 51
