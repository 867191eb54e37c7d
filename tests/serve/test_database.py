"""The tables are those that the migrations make, a transaction is whole, and the suggestions are unlike one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from aeflow.errors import ArtifactError, DataError, SettingsError
from aeflow.serve import audit
from aeflow.serve.database import Database
from aeflow.serve.drawn_masks import mask_of
from aeflow.serve.suggestions import most_valuable
from aeflow.serve.tables import audit as events
from aeflow.serve.tables import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A place for a worklist, as the service may have it."""
    if request.param == "sqlite":
        return tmp_path / "worklist.db"
    new: Callable[[], str] = request.getfixturevalue("new_postgresql")
    return new()


@pytest.fixture
def database(where: Path | str) -> Iterator[Database]:
    opened = Database(where)
    yield opened
    opened.close()


def test_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_database_that_is_open_already_is_not_made_anew(where: Path | str, database: Database) -> None:
    with database.writing() as connection:
        audit.record(connection, "ada", "saw", "x")
    again = Database(where)
    with again.reading() as connection:
        assert audit.verify(connection).events == 1
    again.close()


def test_what_ends_in_an_error_leaves_nothing(database: Database) -> None:
    def fails() -> None:
        with database.writing() as connection:
            audit.record(connection, "ada", "saw", "x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    with database.reading() as connection:
        assert connection.execute(select(events)).all() == []


def test_the_chain_has_one_end_however_many_write(where: Path | str, database: Database) -> None:
    """Two services in one database, and several threads in each: no event is lost, none stands beside the chain."""
    other, writers, each = Database(where), 6, 20

    def writes(number: int) -> None:
        for event in range(each):
            with (database, other)[number % 2].writing() as connection:
                audit.record(connection, f"reader {number}", "saw", f"{event}", note="\u00e9\u4e2d", share=0.1)

    with ThreadPoolExecutor(writers) as threads:
        list(threads.map(writes, range(writers)))
    other.close()
    with database.reading() as connection:
        assert audit.verify(connection).events == writers * each


def test_a_reader_sees_one_state(where: Path | str, database: Database) -> None:
    """What is written in between two questions of one transaction is not in the second answer."""
    with database.reading() as connection:
        before = connection.execute(select(events)).all()
        with database.writing() as writing:
            audit.record(writing, "ada", "saw", "x")
        assert connection.execute(select(events)).all() == before
    with database.reading() as connection:
        assert len(connection.execute(select(events)).all()) == len(before) + 1


@pytest.mark.parametrize("change", ["UPDATE audit SET who = 'x'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_the_audit(database: Database, change: str) -> None:
    def changes() -> None:
        with database.writing() as connection:
            connection.execute(text(change))

    with database.writing() as connection:
        audit.record(connection, "ada", "saw", "x")
    with pytest.raises(DBAPIError, match="append only"):
        changes()


def test_an_event_that_was_changed_or_taken_out_is_noticed(database: Database) -> None:
    with database.writing() as connection:
        for event in "abc":
            audit.record(connection, "ada", "saw", event)
    with database.writing() as connection:  # as whoever owns the database could
        for name in ("audit_no_update", "audit_no_delete") if database.engine.name == "sqlite" else ():
            connection.execute(text(f"DROP TRIGGER {name}"))
        if database.engine.name == "postgresql":
            connection.execute(text("DROP TRIGGER audit_append_only ON audit"))
        connection.execute(text("UPDATE audit SET subject = 'x' WHERE number = 2"))
    with database.reading() as connection, pytest.raises(DataError, match="event 2 of"):
        audit.verify(connection)
    with database.writing() as connection:
        connection.execute(text("DELETE FROM audit WHERE number = 2"))
    with database.reading() as connection, pytest.raises(DataError, match="event 2 is missing"):
        audit.verify(connection)


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
