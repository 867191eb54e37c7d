"""The command ``aeflow serve``: the page where readers see scores and label images, and its interface for programs."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_data_path

from aeflow.cli.options import Backend, Device, Identify, app
from aeflow.errors import SettingsError, count
from aeflow.home import in_home
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print


@app.command()
def serve(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a trained model, or the file of an exported one.", show_default=False, readable=False
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder for worklist and images; by default aeflow/worklist in the user's data folder."),
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="Address of a PostgreSQL database instead of worklist.db in that folder.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a credential.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8765,
    max_upload: Annotated[int, typer.Option(help="Largest request, in MB.", min=1)] = 256,
    tls: Annotated[bool, typer.Option("--tls", help="TLS stands in front: cookies are sent through it alone.")] = False,
    add_user: Annotated[
        str | None, typer.Option(help="Add a user, or change one, whose password is asked for; then end.")
    ] = None,
    role: Annotated[str, typer.Option(help="With --add-user: reader, or admin, who may recalibrate.")] = "reader",
    remove_user: Annotated[str | None, typer.Option(help="Remove a user, and end.")] = None,
    verify_audit: Annotated[
        bool, typer.Option("--verify-audit", help="Check the audit, print its length and head, and end.")
    ] = False,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
) -> None:
    """Serve the page where readers look at scores and maps and label images, and an interface for programs."""
    with extra("serve"):
        from aeflow.serve import audit
        from aeflow.serve.accounts import Accounts
        from aeflow.serve.database import FILE, Database, in_folder
        from aeflow.serve.server import serve as serve_run
        from aeflow.serve.service import Options

    folder = data or in_home(lambda: user_data_path("aeflow", appauthor=False)) / "worklist"
    if verify_audit:
        if database is None and not (folder / FILE).is_file():
            raise SettingsError("--data", f"there is no {FILE} in {folder}", "name the folder of the service")
        with Database(database or folder / FILE).reading() as connection:
            found = audit.verify(connection)
        print(f"{count(found.events, 'event')}, each as it was written\nhead: {found.head}")
        return
    if add_user is not None:
        accounts = Accounts(Database(database or in_folder(folder)))
        new = accounts.add(add_user, role, _password())
        print(f"{'added' if new else 'changed'} {add_user}, {role}")
        return
    if remove_user is not None:
        Accounts(Database(database or in_folder(folder))).remove(remove_user)
        print(f"removed {remove_user}")
        return
    if run is None:
        raise SettingsError("RUN", "no model is named", "aeflow serve RUN; --add-user and --verify-audit do without")
    serve_run(run, folder, database, Options(host, port, max_upload * 2**20, secure=tls), backend, device)


def _password() -> str:
    """Return a password that is typed twice, or the first line of what is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("password: ")
    if first != getpass.getpass("again: "):
        raise SettingsError("password", "was typed in two ways", "try again")
    return first
