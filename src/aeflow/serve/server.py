"""Running of the service: what it needs before it listens, and what it says where."""

from __future__ import annotations

import socket
from pathlib import Path

import uvicorn

from aeflow.backends.base import Wanted
from aeflow.deploy.open_model import open_model
from aeflow.errors import SettingsError, broken
from aeflow.runtime.addresses import is_loopback
from aeflow.runtime.locks import exclusive
from aeflow.runtime.terminal import print
from aeflow.serve.accounts import Accounts, token_of_environment
from aeflow.serve.app import make_app
from aeflow.serve.database import Database, in_folder
from aeflow.serve.service import Options, Service

LOCK = ".aeflow-serve"
TAKEN = "a service runs there: stop it first, or name another folder with --data"
MANY = 10**6  # images that are expected: a graph pays for itself


def serve(run: Path, folder: Path, database: str | None, options: Options, backend: str, device: str) -> None:
    """Serve a model until the process is stopped; SettingsError for a host that needs a credential and has none."""
    where = in_folder(folder) if database is None else database
    in_folder(folder)
    with exclusive(folder / LOCK, folder, remedy=TAKEN):
        token = token_of_environment()
        opened = Database(where)
        try:
            check_host(options.host, Accounts(opened, token))
            scorer = open_model(run, backend, device, MANY, Wanted(maps=True))
            listening = open_socket(options)
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


def check_host(host: str, accounts: Accounts) -> None:
    """Raise SettingsError for a host that others reach, if nobody needs a credential."""
    if not is_loopback(host) and not accounts.needed():
        remedy = "first aeflow serve --add-user NAME --role admin, or set AEFLOW_SERVE_TOKEN; TLS belongs in front"
        raise SettingsError("--host", f"{host} is open to others, and nobody needs to sign in", remedy)


def open_socket(options: Options) -> socket.socket:
    """Return the socket that the service listens on; AeflowError if it is taken."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # By its protocol asyncio knows a socket for which Nagle's algorithm is to be off: it holds answers back for 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((options.host, options.port))
        found.listen(2048)  # from now on a client waits, and is not turned away
    except OSError as error:
        found.close()
        raise broken(error, f"{options.host}:{options.port}") from error
    return found
