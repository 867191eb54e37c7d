"""The command ``aeflow node``: images in over DICOM, results back to the PACS; and what an administrator asks of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aeflow.cli.options import Backend, Device, Group, Identify, Json, Program, Run, app
from aeflow.cli.output import print_json
from aeflow.errors import SettingsError, count
from aeflow.home import in_home
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print

START = "start"  # the command that is meant where a model is named at once


class NodeGroup(Group):
    """Group whose command ``start`` need not be written: ``aeflow node RUN``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``start`` before what is no other command."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [START, *args]
        return super().parse_args(ctx, args)


node = Program(
    help="Stand in the hospital's network: take images in, score quiet studies, send results to the PACS.",
    no_args_is_help=True,
)
app.add_typer(node, name="node", cls=NodeGroup)


def _default_store() -> Path:
    from platformdirs import user_state_path

    return in_home(lambda: user_state_path("aeflow", appauthor=False)) / "node"


Store = Annotated[
    Path | None, typer.Option("--store", help="Folder of the queue; by default one in your state folder.")
]
Studies = Annotated[
    list[int] | None, typer.Argument(help="Numbers of studies, as status shows them.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All dead letters.")]


@node.command(START)
def start(
    run: Run,
    config: Annotated[
        Path | None, typer.Option(help="TOML file: peers, rules, destinations, limits, TLS.", readable=False)
    ] = None,
    aet: Annotated[str | None, typer.Option(help="AE title of this node; AEFLOW by default.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen at; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 11112 by default, 0 for any that is free.")] = None,
    send_to: Annotated[
        list[str] | None,
        typer.Option(help="Where results go: HOST:PORT:AET, or https://HOST/PATH for DICOMweb; repeatable."),
    ] = None,
    quiet: Annotated[
        float | None, typer.Option(help="Seconds without an image until a study counts as complete; 30 by default.")
    ] = None,
    store: Store = None,
    device: Device = "auto",
    backend: Backend = "auto",
    identify: Identify = False,
) -> None:
    """Serve: aeflow node RUN is short for it. Ends after SIGTERM or Ctrl-C; what waits is done at the next start."""
    with extra("node"):
        from aeflow.node.service import Node
        from aeflow.node.settings import node_settings

    settings = node_settings(config, aet=aet, host=host, port=port, quiet_seconds=quiet, send_to=send_to)
    place = store or _default_store()

    def started(port: int) -> None:
        to = ", ".join(one.address for one in settings.destination)
        print(f"listening at {settings.host}:{port} as {settings.aet}; results go to {to}", file=sys.stderr, flush=True)

    Node(run, settings, place, backend, device).run(started)
    print("stopped", file=sys.stderr)


@node.command("status")
def show_status(store: Store = None, identify: Identify = False, as_json: Json = False) -> None:
    """Count studies and deliveries by state, and list the dead letters with their reasons; exit code 1 if there are."""
    with extra("node"):
        from aeflow.node.admin import open_queue, status

    found = status(open_queue(store or _default_store()))
    if as_json:
        print_json(found)
    else:
        states = ", ".join(f"{number:,} {state}" for state, number in sorted(found["studies"].items()))
        print(f"studies: {states or 'none'}; {count(found['objects'], 'image')} kept")
        for name, states_of in sorted(found["destinations"].items()):
            trouble = states_of.pop("trouble", "")
            line = ", ".join(f"{number:,} {state}" for state, number in sorted(states_of.items()))
            print(f"results to {name}: {line}" + (f" ({trouble})" if trouble else ""))
        for one in found["dead_letters"]:
            what = f"{one['kind']} to {one['what']}" if one["kind"] else one["what"]
            print(f"dead: study {one['study']} ({one['pseudonym']}), {what}: {one['reason']}")
    if found["dead_letters"]:
        raise typer.Exit(1)


@node.command()
def retry(studies: Studies = None, all_of_them: All = False, store: Store = None) -> None:
    """Let dead letters be scored or sent again; a node that runs sees it at once."""
    with extra("node"):
        from aeflow.node import admin

    chosen = _named(studies, all_of_them)
    done = admin.retry(admin.open_queue(store or _default_store()), chosen)
    print(f"{count(done, 'dead letter')} tried again")


@node.command()
def drop(studies: Studies = None, all_of_them: All = False, store: Store = None) -> None:
    """Delete studies from the queue, with their images and what was not sent; --all: those with dead letters."""
    with extra("node"):
        from aeflow.node import admin
        from aeflow.node.store import Store as Files

    folder = store or _default_store()
    queue = admin.open_queue(folder)
    chosen = _named(studies, all_of_them) or sorted({one.study for one in admin.dead_letters(queue)})
    images = admin.drop(queue, Files(folder), chosen) if chosen else 0
    print(f"{count(len(chosen), 'study', 'studies')} dropped, with {count(images, 'image')}")


def _named(studies: Sequence[int] | None, all_of_them: bool) -> Sequence[int]:
    """Return the studies that the user names, none for all; SettingsError unless it is clear which."""
    if bool(studies) == all_of_them:
        raise SettingsError("STUDY", "name studies by number, or --all", "aeflow node status lists the dead letters")
    return studies or ()
