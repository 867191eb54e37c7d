"""Speed and memory of archives: images/s by number of images, workers, engine and store.

    python -m benchmarks.speed.scale RUN IMAGES --page docs/scale.md [--counts 1000 10000 100000]
        [--ways table local ray] [--moto ENVIRONMENT/bin/moto_server] [--add] [--out benchmarks/results]

The images of the folder IMAGES are taken again and again under new names (hard links, or objects of a store on the
loopback); each way starts as a user starts it, in a process of its own. `table` is the same score into one table, by
one process. `--moto` names a moto server, which needs an environment of its own (the extra `store`); without it nothing
is read from a store. `--add` keeps the rows of the former scale.json that are not measured anew. Writes scale.json, and
the table of `--page`.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aeflow.data.records import find_images
from aeflow.deploy.benchmark_table import describe
from aeflow.errors import count
from aeflow.runtime.files import write_text
from aeflow.runtime.machine import machine
from benchmarks.common import with_table, write_results
from benchmarks.options import Parser
from benchmarks.processes import run_process

# The command line, which also says the peak memory of its own process: that of the driver, without its workers.
PROGRAM = """
import json
from aeflow.cli import main
from aeflow.runtime.machine import own_peak_mb
try:
    main()
finally:
    print(json.dumps({"driver_mb": own_peak_mb()}))
"""
TABLE = "table"
ORDER = (TABLE, "local", "ray")
NAMES = {TABLE: "one process, one table"}
IN_A_FOLDER = 1000
DRIVEN = 1_000_000  # rows of the driver alone
BUCKET, PORT = "scale", 5991
S3 = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every way, and write the results after each."""
    parser = Parser("speed.scale", __doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path, metavar="IMAGES")
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 10_000], help="numbers of images")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ways", nargs="+", default=ORDER, choices=ORDER)
    parser.add_argument("--driven", type=int, default=DRIVEN, help="rows of the driver alone; 0: not measured")
    parser.add_argument("--moto", type=Path, help="moto_server")
    parser.add_argument("--add", action="store_true", help="keep the former rows that are not measured anew")
    parser.share("--out", "--page")
    options = parser.parse_args(arguments)
    images = [record.path for record in find_images([options.folder])]
    former = json.loads((options.out / "scale.json").read_text()) if options.add else {"runs": []}
    found: dict[str, Any] = {**former, "machine": machine()}

    def note(**row: Any) -> None:
        found["runs"] = sorted([*(one for one in found["runs"] if key(one) != key(row)), row], key=key)
        write_results(options.out / "scale.json", found)
        print(json.dumps(row), file=sys.stderr)

    with tempfile.TemporaryDirectory(dir=options.folder.parent if _linkable(options.folder) else None) as name:
        work = Path(name)
        if options.driven:
            driven = run_process([sys.executable, "-m", "benchmarks.speed.scale_driver", options.driven, work / "d"])
            found["driver"] = {"rows": options.driven, **json.loads(driven.output.splitlines()[-1])}
        for count in options.counts:
            source = linked(images, count, work / f"{count}")
            if TABLE in options.ways:
                note(store="disk", way=TABLE, workers=1, images=count, **score(options.run, source, work / "t.csv"))
            for engine, workers in itertools.product([way for way in options.ways if way != TABLE], options.workers):
                how = ["--engine", engine, "--workers", workers]
                row = score(options.run, source, work / "archive", how)
                note(store="disk", way=engine, workers=workers, images=count, **row)
            if options.moto is not None:
                with stored(source, options.moto) as url:
                    for workers in options.workers:
                        row = score(options.run, f"s3://{BUCKET}", work / "archive", ["--workers", workers], url)
                        note(store="S3", way="local", workers=workers, images=count, **row)
            shutil.rmtree(source)
    write_results(options.out / "scale.json", found)
    if options.page is not None:
        write_text(options.page, with_table(options.page.read_text(), "scale", table(found)))


def key(row: Mapping[str, Any]) -> tuple[int, bool, int, int]:
    """Return what tells a row from the others, in the order of the table: a table and disks come first."""
    return row["images"], row["store"] != "disk", ORDER.index(row["way"]), row["workers"]


def score(run: Path, source: Path | str, out: Path, how: Sequence[object] = (), store: str = "") -> dict[str, float]:
    """Score a source; return the seconds, the peak memory of the driver and of all, and the bytes that are written."""
    variables = {**S3, "AWS_ENDPOINT_URL": store} if store else {}
    done = run_process([sys.executable, "-c", PROGRAM, "score", run, source, "--out", out, *how], **variables)
    written = {"table_bytes": out.stat().st_size, "plan_bytes": 0}
    if out.is_dir():
        found = {name: sum(path.stat().st_size for path in out.glob(name)) for name in ("part-*", "_plan-*")}
        written = {"table_bytes": found["part-*"], "plan_bytes": found["_plan-*"]}
        shutil.rmtree(out)
    else:
        out.unlink()
    driver = json.loads(done.output.splitlines()[-1])["driver_mb"]
    return {"seconds": round(done.seconds, 2), "driver_mb": round(driver), "peak_mb": round(done.peak_mb), **written}


def linked(images: Sequence[Path], count: int, folder: Path) -> Path:
    """Make a folder of so many images under new names, by hard links where the file system has them."""
    for number, image in enumerate(itertools.islice(itertools.cycle(images), count)):
        place = folder / f"{number // IN_A_FOLDER:04}" / f"{number:08}{image.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(image, place)
        except OSError:
            shutil.copyfile(image, place)
    return folder


def _linkable(folder: Path) -> bool:
    """Return if links to a folder's files can be made beside it."""
    return os.access(folder.parent, os.W_OK)


@contextmanager
def stored(folder: Path, moto: Path) -> Iterator[str]:
    """Serve the files of a folder as objects of a bucket; yield the store's URL."""
    url = f"http://127.0.0.1:{PORT}"
    server = subprocess.Popen([moto, "-p", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _put(f"{url}/{BUCKET}", b"", server)
        for path in sorted(folder.rglob("*.*")):
            _put(f"{url}/{BUCKET}/{path.relative_to(folder).as_posix()}", path.read_bytes(), server)
        yield url
    finally:
        server.kill()
        server.wait()


def _put(url: str, content: bytes, server: subprocess.Popen[bytes]) -> None:
    """Put an object or make a bucket, once the server answers; SystemExit if it has ended."""
    kind = {"Content-Type": "application/octet-stream"}  # a form, which is urllib's own, would be waited for
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, content, kind, method="PUT")).close()
            return
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            if server.poll() is not None:
                raise SystemExit("the store has ended: is its port in use?") from error
            time.sleep(0.1)


def of_ways(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the rows of each way that is measured at several numbers of images, the fewest first."""
    ways: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=key):
        ways.setdefault((row["store"], row["way"], row["workers"]), []).append(row)
    return list(ways.values())


def grown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what an image costs where they are most over where they are fewest, the start included."""
    few, many = rows[0], rows[-1]
    ratio = (many["seconds"] / many["images"]) / (few["seconds"] / few["images"])
    way = f"{many['way']}, {count(many['workers'], 'worker')}, from {many['store']}"
    return f"- {way}: an image of {many['images']:,} costs {ratio:.2f} of one of {few['images']:,}, the start included."


def table(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    alone = {row["images"]: row["images"] / row["seconds"] for row in found["runs"] if row["way"] == TABLE}
    lines = [
        "| from | way | workers | images | images/s | over one process | driver, MiB | all, MiB | bytes a row, plan |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["runs"]:
        pace = row["images"] / row["seconds"]
        cells = [row["store"], NAMES.get(row["way"], row["way"]), row["workers"], f"{row['images']:,}", f"{pace:.1f}"]
        over = f"{pace / alone[row['images']]:.2f}" if row["images"] in alone else "not measured"
        cells += [over, row["driver_mb"], row["peak_mb"]]
        cells.append(", ".join(f"{row[name] / row['images']:.0f}" for name in ("table_bytes", "plan_bytes")))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if not found["runs"]:
        lines = ["Images per second have not been measured yet."]
    lines += [""] + [grown(rows) for rows in of_ways(found["runs"]) if len(rows) > 1]
    if driver := found.get("driver"):
        held = f"{driver['driver_mb']:.0f} MiB, {driver['seconds']:.0f} s"
        lines += ["", f"The driver alone, with {driver['rows']:,} rows that come at once from elsewhere: {held}."]
    return "\n".join([*lines, "", describe(found["machine"])]) + "\n"


if __name__ == "__main__":
    main()
