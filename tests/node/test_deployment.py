"""The files of examples/node are what systemd, Docker Compose and the node itself take."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from aeflow.cli import app
from aeflow.node.settings import node_settings
from helpers.orthanc import needed

FOLDER = Path(__file__).parents[2] / "examples" / "node"
UNIT, COMPOSE = FOLDER / "aeflow-node.service", FOLDER / "compose.yaml"


def understood(arguments: list[str]) -> dict[str, object]:
    """Return what the command line makes of ``node RUN ...``; click ends a command that it does not know."""
    assert arguments[0] == "node"
    start = typer.main.get_command(app).commands["node"].commands["start"]  # type: ignore[attr-defined]
    found: dict[str, object] = start.make_context("start", arguments[1:]).params
    return found


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.toml")), ids=lambda file: file.name)
def test_the_settings_are_a_node_s(file: Path) -> None:
    assert node_settings(file).destination


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    needed("systemd-analyze")
    text = UNIT.read_text()
    command = next(line.removeprefix("ExecStart=") for line in text.splitlines() if line.startswith("ExecStart="))
    program, *arguments = shlex.split(command)
    assert program.endswith("/aeflow")
    assert understood(arguments)["store"] == Path("/var/lib/aeflow/node")
    (tmp_path / UNIT.name).write_text(text.replace(program, sys.executable))  # one that is there
    done = subprocess.run(["systemd-analyze", "verify", str(tmp_path / UNIT.name)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_compose_takes_its_file_and_wants_a_secret_salt() -> None:
    needed("docker-compose")
    environment = {**os.environ, "ORTHANC_IMAGE": "orthanc"}
    command = ["docker-compose", "-f", str(COMPOSE), "config"]
    for salt, taken in (("salt", True), ("", False)):
        environment["AEFLOW_SALT"] = salt
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert (done.returncode == 0) == taken, done.stderr


def test_the_node_beside_an_orthanc_takes_its_command_and_knows_where_it_is() -> None:
    services = pytest.importorskip("yaml").safe_load(COMPOSE.read_text())["services"]
    node, orthanc = services["node"], services["orthanc"]
    assert understood(node["command"])["config"] == Path("/config/node.toml")
    [mounted] = [volume.split(":")[0] for volume in node["volumes"] if ":/config/node.toml" in volume]
    settings = node_settings(FOLDER / mounted)
    assert node["network_mode"] == "service:orthanc"  # whose loopback is that of both
    assert settings.orthanc is not None
    assert settings.orthanc.address == "http://127.0.0.1:8042"
    [destination] = settings.destination
    assert destination.host_port_aet == ("127.0.0.1", 4242, orthanc["environment"]["ORTHANC__DICOM_AET"])
