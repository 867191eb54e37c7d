"""Decoding in worker processes: one file's end is never another's, and nothing outlives the run."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from aeflow import errors
from aeflow.data import preprocess
from aeflow.data.loader import stream
from aeflow.data.records import Record, find_images
from aeflow.errors import AeflowError
from aeflow.imageio import decoder_pool
from aeflow.imageio import errors as image_errors
from aeflow.imageio.decoder_pool import Decoders, decoders
from aeflow.imageio.errors import FileError, ImageError, ImageLimitError
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import read_image
from aeflow.privacy import pseudonym
from helpers.data import SAMPLE
from helpers.worker_tasks import crash, crash_if_used, double, keep, modules, unsendable, whoami

LIMITS = Limits(max_seconds=1.0, max_memory=2**28)
FILE = Path("/scan.png")


@pytest.fixture(scope="module")
def pool():
    with Decoders(LIMITS) as pool:
        yield pool


ENDS = {
    "SIGSEGV": (FileError, "its decoder died (signal 11)"),
    "SIGKILL": (FileError, "its decoder died (signal 9)"),
    "exit": (FileError, "its decoder died (exit code 3)"),
    "hang": (ImageLimitError, "took longer than 1 s"),
    "memory": (ImageLimitError, "needs more than 268435456 bytes of memory"),
    "memory, wrapped": (ImageLimitError, "needs more than 268435456 bytes of memory"),
    "refused": (ImageError, "an empty file"),
    "other": (ImageError, "its reader failed (KeyError)"),
    "nonsense": (FileError, "its decoder sent nonsense (UnpicklingError)"),
    "unpicklable": (ImageError, "a result that cannot be sent"),
}


# Laws.


def test_every_error_survives_pickling():
    found = {**vars(errors), **vars(image_errors)}.values()
    kinds = [kind for kind in found if isinstance(kind, type) and issubclass(kind, AeflowError)]
    assert len(kinds) == 12
    for kind in kinds:
        error = kind(FILE, "found  this", "do that")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind
        assert (copy.where, copy.found, copy.remedy) == (str(FILE), "found  this", "do that")
        named = f"image {pseudonym(str(FILE))}" if issubclass(kind, ImageError) else str(FILE)
        assert str(copy) == str(error) == f"{named}: found this; do that"


def test_each_task_has_its_own_end_and_the_others_go_on(pool):
    tasks = [(i, how) for i, how in enumerate(ENDS)]
    futures = []
    for i, how in tasks:
        futures.append((pool.submit(crash, Path(f"/{i}"), how), pool.submit(double, FILE, i)))
    for (i, how), (ended, good) in zip(tasks, futures, strict=True):
        kind, found = ENDS[how]
        with pytest.raises(ImageError) as caught:
            ended.result(timeout=60)
        assert type(caught.value) is kind
        assert (caught.value.where, caught.value.found) == (f"/{i}", found)
        assert good.result(timeout=60) == 2 * i


def test_nothing_is_lost_among_workers_that_die_at_once():
    with Decoders(LIMITS, workers=4) as pool:
        futures = [
            pool.submit(crash, Path(f"/{i}"), "exit") if i % 3 else pool.submit(double, FILE, i) for i in range(15)
        ]
        outcomes = Counter(type(future.exception(timeout=60)) for future in futures)
    assert outcomes == {FileError: 10, type(None): 5}


def test_a_worker_that_died_idle_costs_nothing(pool):
    for _ in range(3):
        os.kill(pool.submit(whoami, FILE).result()[0], signal.SIGKILL)
        assert pool.submit(double, FILE, 4).result(timeout=60) == 8


def test_a_file_is_not_blamed_for_what_the_one_before_it_left_behind():
    with Decoders(LIMITS, workers=1) as pool:
        assert pool.submit(double, FILE, 1).result() == 2
        assert pool.submit(crash_if_used, FILE).result() == "fine in a fresh worker"


def test_the_memory_limit_is_of_one_file_not_of_those_before_it():
    with Decoders(LIMITS, workers=1) as pool:
        kept = [pool.submit(keep, FILE, 100 * 2**20).result() for _ in range(5)]
    assert kept == [1, 2, 1, 2, 1]  # a fresh worker where the old one is full


def test_a_result_that_cannot_be_sent_is_refused(pool):
    assert isinstance(pool.submit(unsendable, FILE).exception(timeout=60), ImageError)
    with pytest.raises((AttributeError, pickle.PicklingError)):  # a mistake of the caller, no file's
        pool.submit(lambda path: None, FILE)


# Behaviour: what a worker knows, says and leaves.


def test_workers_start_fast_without_torch():
    with Decoders(LIMITS, workers=1) as pool:
        began = time.perf_counter()
        loaded = pool.submit(modules, FILE).result()
        seconds = time.perf_counter() - began
    assert "aeflow.imageio.reader" in loaded
    assert not {"torch", "scipy", "matplotlib", "sklearn"} & set(loaded)
    assert seconds < 10  # well below 1 on an idle machine


def test_workers_print_nothing(tmp_path):
    code = (
        "from pathlib import Path; from aeflow.imageio.decoder_pool import decoders; from helpers import worker_tasks;"
        "print(decoders().submit(worker_tasks.noise, Path('/x')).result())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("None\n", "", 0)


def test_relative_paths_start_where_the_caller_is(pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(4):
        assert pool.submit(whoami, Path("here")).result()[1] == str(tmp_path)


def test_closing_ends_the_workers_and_cancels_what_waits():
    with Decoders(LIMITS, workers=1) as pool:
        process = pool.submit(whoami, FILE).result()[0]
        running, *waiting = [pool.submit(crash, FILE, "hang") for _ in range(3)]
        time.sleep(0.1)
        began = time.perf_counter()
    assert time.perf_counter() - began < 0.9
    assert isinstance(running.exception(timeout=0), ImageError)
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(timeout=0)
    assert gone(process)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(double, FILE, 1)


@pytest.mark.parametrize(("executable", "reason"), [("/bin/false", "exit code 1"), ("/missing", "FileNotFoundError")])
def test_that_no_worker_starts_is_no_files_fault(monkeypatch, executable, reason):
    monkeypatch.setattr(sys, "executable", executable)
    with Decoders(LIMITS, workers=1) as pool:
        error = pool.submit(double, FILE, 1).exception(timeout=60)
    assert type(error) is AeflowError
    assert str(error) == f"decoding: no worker process started ({reason}); free memory, or install aeflow again"


def test_a_worker_that_is_slow_to_start_is_waited_for(monkeypatch, tmp_path, capsys):
    """As on a machine that is busy with other work: nothing is lost."""
    slow = tmp_path / "python"
    slow.write_text(f'#!/bin/sh\nsleep 0.5\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    monkeypatch.setattr(decoder_pool, "START_SECONDS", 0.1)
    with Decoders(LIMITS, workers=1) as pool:
        assert pool.submit(double, FILE, 1).result(timeout=60) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "note: decoding: a worker process has not started within 0.1 s: the machine is busy; waiting for it"
    )


def test_a_worker_that_is_slow_to_start_and_dies_is_an_error_and_one_that_never_does_can_be_closed(
    monkeypatch, tmp_path
):
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nsleep 0.3\nexit 4\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    monkeypatch.setattr(decoder_pool, "START_SECONDS", 0.1)
    with Decoders(LIMITS, workers=1) as pool:
        with pytest.raises(AeflowError, match=r"no worker process started \(exit code 4\)"):
            pool.submit(double, FILE, 1).result(timeout=60)
        slow.write_text("#!/bin/sh\nexec sleep 1000\n")
        waiting = pool.submit(double, FILE, 1)
        time.sleep(0.3)
    assert waiting.done()


def gone(process: int, within: float = 5.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # its new parent has yet to take note
            return True
        time.sleep(0.02)
    return False


SCRIPT = """
import sys
from pathlib import Path

from aeflow.imageio.decoder_pool import decoders
from helpers import worker_tasks

print(*sorted({decoders().submit(worker_tasks.whoami, Path("/x"), 0.3).result()[0] for _ in range(2)}), flush=True)
busy = [decoders().submit(worker_tasks.crash, Path("/x"), "hang") for _ in range(2)]
if sys.argv[1] == "wait":
    busy[0].result()
"""  # with no guard for __main__, as people write scripts


@pytest.mark.skipif(sys.platform != "linux", reason="a busy worker dies with its parent on Linux")
@pytest.mark.parametrize("end", ["returns", "SIGKILL", "SIGTERM", "SIGINT"])
def test_no_worker_outlives_the_run(tmp_path, end):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), "return" if end == "returns" else "wait"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "process_group": 0}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background of a shell ignores it
    with subprocess.Popen(command, env=environment, preexec_fn=heard, **quiet) as run:
        try:
            workers = [int(text) for text in run.stdout.readline().split()]
            assert workers
            time.sleep(0.2)
            if end == "SIGINT":
                os.killpg(run.pid, signal.SIGINT)  # as a terminal does
            elif end != "returns":
                run.send_signal(getattr(signal, end))
            began = time.perf_counter()
            run.wait(timeout=20)
            assert time.perf_counter() - began < 10  # and not the 30 s that a hanging file may take
            assert all(gone(worker) for worker in workers)
        finally:
            run.kill()


def test_a_forked_process_gets_workers_of_its_own():
    assert decoders().submit(double, FILE, 1).result() == 2
    child = os.fork()
    if child == 0:
        try:
            os._exit(decoders().submit(double, FILE, 3).result(timeout=30))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
    assert decoders().submit(double, FILE, 1).result() == 2


# The stream.


def record(path: Path) -> Record:
    return Record(path, path.name, None, None, path.name, None, None)


def test_the_stream_is_in_order_exact_and_names_what_it_refuses(tmp_path):
    good = [r.path for r in find_images([SAMPLE / "test" / "normal"])][:20]
    colour = tmp_path / "colour.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)

    PIL.Image.fromarray(pixels).save(colour)
    (tmp_path / "text").write_text("no image")
    paths = [*good[:10], colour, tmp_path / "text", *good[10:], tmp_path / "missing"]
    got = list(stream([record(path) for path in paths], 64, ahead=5))
    assert [r.path for r, _ in got] == paths
    for r, x in got:
        if r.path.name in ("text", "missing"):
            assert isinstance(x, ImageError)
            assert x.where == str(r.path)
        else:
            assert x.flags.writeable
            np.testing.assert_array_equal(x, preprocess(read_image(r.path), 64))


def test_a_stream_that_is_left_early_leaves_nothing_running():
    records = find_images([SAMPLE / "test" / "normal"])
    for _ in range(3):
        images = stream(records, 64, ahead=30)
        next(images)
        images.close()
    began = time.perf_counter()
    assert decoders().submit(double, FILE, 1).result(timeout=10) == 2
    assert time.perf_counter() - began < 5


def test_a_process_that_was_started_ahead_reads_the_first_file_and_is_ended_if_none_comes():
    with Decoders(LIMITS, workers=2) as pool:
        pool.start()
        ahead = pool._ahead[0][0].pid
        assert pool.submit(whoami, FILE).result()[0] == ahead
        pool.start()
        unused = pool._ahead[0][0].pid
    assert gone(ahead)
    assert gone(unused)
