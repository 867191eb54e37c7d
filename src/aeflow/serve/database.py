"""Database of the worklist: SQLite in a folder, or PostgreSQL by its address; migrated when it is opened.

SQLite runs with a write-ahead log, and a transaction that is over is on the disk (``synchronous=FULL``): what was
answered survives a kill and a power cut. All writes of this process go one after another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from aeflow.errors import ArtifactError, SettingsError

FILE = "worklist.db"
BUSY_SECONDS = 20  # that a writer waits for one in another process
AUDIT_LOCK = 0x61656C  # number of PostgreSQL's lock: the chain of the audit has one end


class Database:
    """Connections to the worklist."""

    def __init__(self, where: Path | str) -> None:
        """Open a file of SQLite, which is made if it is missing, or the database at an address; ArtifactError."""
        self.where = where
        self._one = threading.Lock()
        self.engine = _engine(where)
        try:
            _migrate(self.engine)
        except (SQLAlchemyError, CommandError) as error:
            self.engine.dispose()
            found = f"cannot be opened as a worklist ({getattr(error, 'orig', None) or type(error).__name__})"
            raise ArtifactError(_shown(where), found, "name another place, or restore a backup") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one state of the database."""
        with self.engine.connect() as plain:
            # PostgreSQL sees one state for each question otherwise; SQLite has it so
            same = {"isolation_level": "REPEATABLE READ"} if self.engine.dialect.name == "postgresql" else {}
            connection = plain.execution_options(**same)
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection whose changes are all on the disk when the context ends, or none of them."""
        with self._one, self.engine.connect() as plain:
            connection = plain.execution_options(writes=True)
            with connection.begin():
                if self.engine.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": AUDIT_LOCK})
                yield connection

    def close(self) -> None:
        """Close all connections; SQLite then puts its log into the file."""
        self.engine.dispose()


def in_folder(folder: Path) -> Path:
    """Return where SQLite's file lies in a folder, which is made for its owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / FILE


def _engine(where: Path | str) -> Engine:
    if isinstance(where, str):
        return _by_address(where)
    if not where.exists():
        os.close(os.open(where, os.O_CREAT | os.O_WRONLY, 0o600))  # for its owner alone
    url = URL.create("sqlite", database=str(where))
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=16, max_overflow=32)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _by_address(address: str) -> Engine:
    """Return the engine of a PostgreSQL address; SettingsError for any other, or without its driver."""
    remedy = "write postgresql+psycopg://USER@HOST/NAME, and keep the password in ~/.pgpass"
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise SettingsError("--database", "is no address of a database", remedy) from error
    if url.get_backend_name() != "postgresql":
        raise SettingsError("--database", f"{url.get_backend_name()} is not supported", remedy)
    try:
        return create_engine(url, pool_size=16, max_overflow=32, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise SettingsError(error.name or "driver", "is not installed", "pip install 'psycopg[binary]'") from error


def _migrate(engine: Engine) -> None:
    """Bring the tables to the state that this version knows; CommandError if they are of a later one."""
    config = Config()
    config.set_main_option("script_location", "aeflow.serve:migrations")
    config.set_main_option("path_separator", "os")
    with engine.connect() as plain:
        connection = plain.execution_options(writes=True)
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _shown(where: Path | str) -> str:
    """Return the name of a database without a password."""
    return make_url(where).render_as_string(hide_password=True) if isinstance(where, str) else str(where)
