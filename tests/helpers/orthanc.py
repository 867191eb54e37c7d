"""Orthanc of Debian, with its DICOMweb plugin, on loopback; and the node as a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
READY_SECONDS = 600.0  # a machine that others use, too: a start has taken more than 180 there


def needed(*programs: str) -> None:
    """Skip a test, with the reason, where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install orthanc orthanc-dicomweb dcmtk dicom3tools")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Orthanc:
    """A PACS that runs."""

    http: int
    dicom: int
    user: tuple[str, str] | None = None  # and password, if it wants them
    address: str = field(init=False)

    def __post_init__(self) -> None:
        self.address = f"http://127.0.0.1:{self.http}"

    def send(self, content: bytes) -> None:
        """Store an instance."""
        requests.post(f"{self.address}/instances", data=content, auth=self.user, timeout=60).raise_for_status()

    def delete(self, **query: str) -> None:
        """Delete the instances that fit."""
        asked = {"Level": "Instance", "Query": query}
        for one in requests.post(f"{self.address}/tools/find", json=asked, auth=self.user, timeout=60).json():
            requests.delete(f"{self.address}/instances/{one}", auth=self.user, timeout=60).raise_for_status()

    def get(self, path: str) -> Any:
        answer = requests.get(f"{self.address}{path}", timeout=30)
        answer.raise_for_status()
        return answer.json()

    def instances(self, **query: str) -> list[pydicom.Dataset]:
        """The instances that fit, as pydicom reads them."""
        asked = {"Level": "Instance", "Query": query}
        found = requests.post(f"{self.address}/tools/find", json=asked, timeout=60).json()
        return [pydicom.dcmread(BytesIO(self.file(one))) for one in found]

    def file(self, one: str) -> bytes:
        answer = requests.get(f"{self.address}/instances/{one}/file", timeout=30)
        answer.raise_for_status()
        return answer.content

    def count(self, **query: str) -> int:
        asked = {"Level": "Instance", "Query": query}
        return len(requests.post(f"{self.address}/tools/find", json=asked, timeout=60).json())


@contextmanager
def orthanc(
    folder: Path, *, port: int = 0, http: int = 0, user: tuple[str, str] | None = None, **more: object
) -> Iterator[Orthanc]:
    """Start Orthanc on an empty or former storage in a folder; it ends with the context."""
    if not Path(ORTHANC).exists():
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    folder.mkdir(exist_ok=True)
    found = Orthanc(http or free_port(), port or free_port(), user)
    settings = {
        "Name": "PACS of the tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [DICOMWEB] if Path(DICOMWEB).exists() else [],
        "HttpCompressionEnabled": False,
        "HttpPort": found.http,
        "DicomAet": "PACS",
        "DicomPort": found.dicom,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowEcho": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": user is not None,
        "RegisteredUsers": dict([user] if user is not None else []),
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                requests.get(f"{found.address}/system", timeout=5)
                break
            except requests.RequestException:
                assert process.poll() is None, (folder / "orthanc.log").read_text()[-2000:]
                assert time.monotonic() < until, "Orthanc does not answer"
                time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        process.wait(60)


class NodeProcess:
    """`aeflow node` in a process of its own, as a supervisor starts it."""

    def __init__(self, run: Path, folder: Path, *options: object, environment: dict[str, str] | None = None) -> None:
        self.log = folder / "node.log"
        self.store = folder / "store"
        self._command = [sys.executable, "-c", "from aeflow.cli import main; main()", "node", str(run)]
        self._command += ["--store", str(self.store), *map(str, options)]
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> NodeProcess:
        with self.log.open("ab") as log:
            start = self.log.stat().st_size
            self.process = subprocess.Popen(self._command, stderr=log, stdout=log, env=self._environment)
        until = time.monotonic() + READY_SECONDS
        while not (found := re.search(r"listening at [\d.]+:(\d+)", self.said()[start:])):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, "the node does not listen"
            time.sleep(0.05)
        self.port = int(found[1])
        return self

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def __enter__(self) -> NodeProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        assert "Traceback" not in self.said(), self.said()

    def state(self) -> dict[str, Any]:
        """What `aeflow node status` says."""
        done = subprocess.run(
            [*self._command[:4], "status", "--json", "--store", str(self.store)], capture_output=True, text=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def storescu(
    port: int, *files: Path, options: Sequence[str] = ("-xs",), title: str = "MODALITY"
) -> subprocess.CompletedProcess[str]:
    """Send files with dcmtk."""
    command = ["storescu", "-v", "-to", "10", *options, "-aet", title, "-aec", "AEFLOW", "127.0.0.1", str(port)]
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True, timeout=120)


def wait_for(condition: Any, seconds: float = 30.0, pause: float = 0.05) -> Any:
    """Wait until a condition holds, asked once a pause, and return it."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(pause)
    return found
