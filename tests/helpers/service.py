"""The service as it runs: a process of its own, asked over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_SECONDS = 120.0
COMMAND = [sys.executable, "-c", "from aeflow.cli import main; main()"]


@dataclass
class Running:
    """A service that runs."""

    process: subprocess.Popen[str]
    address: str
    folder: Path
    said: list[str] = field(default_factory=list)

    def client(self, **options: object) -> httpx.Client:
        """Return a client; the caller closes it."""
        return httpx.Client(base_url=self.address, timeout=60, **options)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(run: Path, folder: Path, *options: object, healthy: bool = True, **environment: str) -> Iterator[Running]:
    """Run ``aeflow serve`` on a free port until the context ends."""
    command = [*COMMAND, "serve", str(run), "--data", str(folder), "--port", "0", *map(str, options)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)
        reader.start()
        try:
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                process.wait(10)
                reader.join(5)
                raise AssertionError("".join(said))
            running = Running(process, found.group(), folder, said)
            if healthy:
                wait_until_healthy(running)
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()


def wait_until_healthy(running: Running) -> None:
    """Wait until the service says that it scores as it should."""
    with running.client() as client:
        for _ in range(int(START_SECONDS / 0.1)):
            if client.get("/health").status_code == 200:
                return
            time.sleep(0.1)
    raise AssertionError(f"not healthy: {client.get('/health').text}")


def send(client: httpx.Client, *paths: Path, source: str = "uploaded") -> httpx.Response:
    """Send files to be scored."""
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    return client.post("/api/score", files=files, data={"source": source})
