"""PostgreSQL of Debian: a cluster that is thrown away, behind a socket in a folder of its own."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

READY_SECONDS = 60.0
USER = "postgres"  # of the cluster, and the one that runs it where this is root


def programs() -> Path:
    """Return where PostgreSQL's programs lie; skip the test, with the reason, where there are none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: no PostgreSQL is asked")
    found = [*map(Path, filter(None, [shutil.which("initdb")])), *Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return found[0].resolve().parent


@contextmanager
def cluster() -> Iterator[Callable[[], str]]:
    """Run a cluster; yield a function that makes an empty database, and returns its address."""
    found = programs()
    as_user = {"user": USER, "group": USER} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:  # a socket's path is short
        place = Path(folder)
        if as_user:
            account = pwd.getpwnam(USER)
            os.chown(place, account.pw_uid, account.pw_gid)
        options = {**as_user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        made = [
            found / "initdb",
            "-D",
            place / "data",
            "-U",
            USER,
            "-A",
            "trust",
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
        ]
        subprocess.run(list(map(str, made)), check=True, **options)
        run = [found / "postgres", "-D", place / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with subprocess.Popen(list(map(str, run)), **options) as server:
            try:
                _wait(found, folder, server)
                numbers = itertools.count()

                def new() -> str:
                    name = f"worklist{next(numbers)}"
                    made = [str(found / "createdb"), "-h", folder, "-U", USER, name]
                    subprocess.run(made, check=True, capture_output=True)
                    return f"postgresql+psycopg://{USER}@/{name}?host={folder}"

                yield new
            finally:
                server.send_signal(signal.SIGINT)  # whoever is connected still is cut off


def _wait(found: Path, folder: str, server: subprocess.Popen[str]) -> None:
    until = time.monotonic() + READY_SECONDS
    while subprocess.run([str(found / "pg_isready"), "-q", "-h", folder, "-U", USER]).returncode:
        assert server.poll() is None, server.stderr.read() if server.stderr else ""
        assert time.monotonic() < until, "PostgreSQL does not answer"
        time.sleep(0.1)
