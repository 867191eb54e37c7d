"""Speed of `aeflow node`: objects a second that it takes in, beside dcmtk's storescp, and the time to a result.

    python -m benchmarks.speed.node RUN [--objects 100] [--out benchmarks/results]

Objects are X-rays of noise, 1024 x 1024 in 16 bits, sent by dcmtk's storescu over one association and over four at a
time. Both receivers write to the same disk, in turns; storescp (with --fork) does not wait for the disk, the node does.
The time to a result is that of studies of one image, from storescu's end to the report's arrival at a receiver of
pynetdicom's on this machine, without the quiet time, which is 0.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt

from aeflow.results.dicom.identifiers import uid
from aeflow.runtime.machine import machine
from benchmarks.common import write_results
from benchmarks.options import Parser
from benchmarks.speed.runs import CLI

SIDE = 1024
ROUNDS = 3
STUDIES = 10  # for the time to a result
START_SECONDS = 600.0  # a machine that others use, too
SETTINGS = '[[destination]]\nname = "pacs"\naddress = "127.0.0.1:{port}:PACS"\n[[rule]]\noutside = "send"\n'


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the figures."""
    parser = Parser("speed.node", __doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--objects", type=int, default=100)
    parser.share("--out")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, pacs() as (port, came):
        work = Path(folder)
        (work / "node.toml").write_text(SETTINGS.format(port=port))
        result = {
            "intake": intake(options.run, work, options.objects),
            "seconds_to_result": to_result(options.run, work, came),
            "megabytes": round(image(work, 0).stat().st_size / 1e6, 2),
            "machine": machine(),
        }
    write_results(options.out / "node.json", result)
    print(json.dumps(result, indent=1))


def image(folder: Path, number: int) -> Path:
    """Write an X-ray of noise, a study by itself."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = ComputedRadiographyImageStorage
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(data, keyword, uid("benchmark", keyword, number))
    data.Modality, data.PatientID, data.PatientName = "CR", f"{number}", "Noise"
    data.Rows = data.Columns = SIDE
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = np.random.default_rng(number).integers(0, 2**16, (SIDE, SIDE), dtype=np.uint16).tobytes()
    path = folder / f"{number}.dcm"
    data.save_as(path, enforce_file_format=True)
    return path


@contextmanager
def pacs() -> Iterator[tuple[int, Event]]:
    """Receive results; yield the port, and an event that is set at each report."""
    came = Event()

    def store(event: Any) -> int:
        if event.dataset.Modality == "SR":
            came.set()
        return 0

    entity = AE("PACS")
    entity.supported_contexts = AllStoragePresentationContexts
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None, "it does not block"
    try:
        yield int(server.server_address[1]), came
    finally:
        server.shutdown()


@contextmanager
def node(run: Path, folder: Path, quiet: float) -> Iterator[int]:
    """Start a node on an empty store; yield its port."""
    with tempfile.TemporaryDirectory(dir=folder) as store:
        log = Path(store, "log")
        options = ["--config", folder / "node.toml", "--store", Path(store, "store"), "--port", "0", "--quiet", quiet]
        with log.open("wb") as file:
            process = subprocess.Popen([*CLI, "node", str(run), *map(str, options)], stderr=file)
        try:
            until = time.monotonic() + START_SECONDS
            while not (found := re.search(r"listening at [\d.]+:(\d+)", log.read_text())):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(log.read_text())
                time.sleep(0.05)
            yield int(found[1])
        finally:
            process.terminate()
            process.wait()


@contextmanager
def storescp(folder: Path, port: int) -> Iterator[int]:
    """Start dcmtk's receiver; yield its port."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        process = subprocess.Popen(
            ["storescp", "--fork", "-od", out, "-aet", "AEFLOW", str(port)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            time.sleep(1)
            yield port
        finally:
            process.terminate()
            process.wait()


def send(port: int, images: Sequence[Path], associations: int = 1) -> float:
    """Send images over so many associations at a time; return the seconds that it took."""

    def one(part: Sequence[Path]) -> None:
        command = ["storescu", "-xe", "-aec", "AEFLOW", "127.0.0.1", str(port)]
        subprocess.run([*command, *map(str, part)], check=True, stderr=subprocess.DEVNULL)

    with ThreadPoolExecutor(associations) as pool:
        started = time.perf_counter()
        list(pool.map(one, [images[start::associations] for start in range(associations)]))
        return time.perf_counter() - started


def intake(run: Path, folder: Path, many: int) -> dict[str, dict[str, float]]:
    """Return objects a second of both receivers, by associations at a time: medians of rounds, in turns."""
    found: dict[str, dict[str, list[float]]] = {name: {"1": [], "4": []} for name in ("node", "storescp")}
    with node(run, folder, quiet=3600) as ours, storescp(folder, 11999) as theirs:
        for turn in range(ROUNDS):
            for number, associations in enumerate((1, 4)):
                start = (2 * turn + number) * many  # new objects each time, since the node knows those that it has
                images = [image(folder, one) for one in range(start, start + many)]
                for name, port in (("node", ours), ("storescp", theirs)):
                    found[name][str(associations)].append(many / send(port, images, associations))
    rates = {name: {n: round(median(of), 1) for n, of in one.items()} for name, one in found.items()}
    ratio = {n: round(rates["node"][n] / rates["storescp"][n], 2) for n in ("1", "4")}
    return {**rates, "ratio": ratio}


def to_result(run: Path, folder: Path, came: Event) -> dict[str, float]:
    """Return median and worst seconds from an object's acknowledgement to its report at the receiver."""
    seconds = []
    with node(run, folder, quiet=0) as port:
        for number in range(STUDIES):
            came.clear()
            send(port, [image(folder, 10_000 + number)])
            started = time.perf_counter()
            if not came.wait(60):
                raise RuntimeError("no report came")
            seconds.append(time.perf_counter() - started)
    return {"median": round(median(seconds), 3), "worst": round(max(seconds), 3)}


if __name__ == "__main__":
    main()
