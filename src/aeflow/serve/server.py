"""Running of the service: what it needs before it listens, and what it says where."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from aeflow.artifacts.layout import read_metadata
from aeflow.backends.base import Wanted
from aeflow.deploy.open_model import open_model
from aeflow.errors import AeflowError, SettingsError, broken
from aeflow.runtime.addresses import is_loopback
from aeflow.runtime.locks import exclusive
from aeflow.runtime.terminal import print
from aeflow.serve.accounts import Accounts, token_of_environment
from aeflow.serve.app import make_app
from aeflow.serve.database import FILE, Database, in_folder
from aeflow.serve.service import Options, Service

LOCK = ".aeflow-serve"
TAKEN = "a service runs there: stop it first, or name another folder with --data"
MANY = 10**6  # images that are expected: a graph pays for itself


def serve(run: Path, folder: Path, database: str | None, options: Options, backend: str, device: str) -> None:
    """Serve a model until the process is stopped; SettingsError for a host that needs a credential and has none.

    What can be refused without a worklist is, before one is made.
    """
    token = token_of_environment()
    with open_socket(options) as listening:
        if database is None and not (folder / FILE).is_file():
            check_host(options.host, token is not None)  # there is no user
        read_metadata(run)
        where = in_folder(folder) if database is None else database
        in_folder(folder)
        with exclusive(folder / LOCK, folder, remedy=TAKEN):
            _serve(run, folder, where, options, backend, device, token, listening)


def _serve(
    run: Path,
    folder: Path,
    where: Path | str,
    options: Options,
    backend: str,
    device: str,
    token: str | None,
    listening: socket.socket,
) -> None:
    """Serve a worklist that is held, on a socket that is bound."""
    opened = Database(where)
    try:
        check_host(options.host, Accounts(opened, token).needed())
        scorer = open_model(run, backend, device, MANY, Wanted(maps=True))
        with _named(options):
            listening.listen(2048)  # from now on a client waits, and is not turned away
    except BaseException:
        opened.close()
        raise
    service = Service.of(options, run, folder, scorer, opened, token)
    app = make_app(service)
    host = f"[{options.host}]" if ":" in options.host else options.host
    needed = "sign in" if service.accounts.needed() else "no sign-in: this machine alone"
    print(f"serving http://{host}:{listening.getsockname()[1]} ({needed}); worklist in {folder}", flush=True)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses hold identifiers alone, and who saw what is in the audit
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1",
        timeout_keep_alive=30,
    )
    uvicorn.Server(config).run([listening])


def check_host(host: str, needed: bool) -> None:
    """Raise SettingsError for a host that others reach, if nobody needs a credential."""
    if not is_loopback(host) and not needed:
        remedy = "first aeflow serve --add-user NAME --role admin, or set AEFLOW_SERVE_TOKEN; TLS belongs in front"
        raise SettingsError("--host", f"{host} is open to others, and nobody needs to sign in", remedy)


def open_socket(options: Options) -> socket.socket:
    """Return the socket that the service will listen on, bound; AeflowError if its place is taken."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # By its protocol asyncio knows a socket for which Nagle's algorithm is to be off: it holds answers back for 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        with _named(options):
            found.bind((options.host, options.port))
    except BaseException:
        found.close()
        raise
    return found


@contextmanager
def _named(options: Options) -> Iterator[None]:
    """Name the address that the system refuses within this context."""
    try:
        yield
    except OSError as error:
        where = f"{options.host}:{options.port}"
        raise AeflowError(where, broken(error, where).found, "name another --port or --host") from error
