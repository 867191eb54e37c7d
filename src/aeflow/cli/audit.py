"""The command ``aeflow audit``: a data folder searched for what makes its figures misleading."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aeflow.cli.options import Data, Identify, Json, Overwrite, app
from aeflow.cli.output import print_json
from aeflow.runtime.extras import extra
from aeflow.runtime.terminal import print


@app.command()
def audit(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for audit.json and audit.html.")] = None,
    overwrite: Overwrite = False,
    identify: Identify = False,
    as_json: Json = False,
) -> None:
    """Look for what makes figures misleading: patients and copies on both sides, shortcuts, unreadable files."""
    with extra("audit"):
        from aeflow.audit.audit import audit as look_at
        from aeflow.audit.report import check, print_audit, write_audit

    if out is not None:
        check(out, overwrite)
    found = look_at(data)
    report = None if out is None else write_audit(found, out, identify)
    if as_json:
        print_json(found.to_json(identify))
    else:
        print_audit(found, identify)
        if report is not None:
            print(f"report: {report}")
    if found.worst != "note":
        raise typer.Exit(1)
