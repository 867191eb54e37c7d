"""Node as one process: a receiver, one thread that scores, one for each destination; a signal ends all of them."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from aeflow.backends.base import Wanted
from aeflow.data.loader import load
from aeflow.data.records import Record
from aeflow.deploy.open_model import open_model
from aeflow.errors import AeflowError, OutputError, broken, count
from aeflow.imageio.decoder_pool import WORKERS, decoders
from aeflow.imageio.errors import ImageError
from aeflow.node.feed_place import FeedPlace
from aeflow.node.intake import Intake
from aeflow.node.orthanc import ChangeFeed, FeedError
from aeflow.node.queue import Queue, back_off
from aeflow.node.receiver import Receiver
from aeflow.node.score import StudyScorer
from aeflow.node.send import Courier
from aeflow.node.settings import NodeSettings
from aeflow.node.store import Store
from aeflow.results.dicom.identifiers import ModelIdentity, uid
from aeflow.results.dicom.study_results import StudyResults
from aeflow.runtime.folders import LOCK
from aeflow.runtime.locks import exclusive
from aeflow.runtime.progress import listening
from aeflow.runtime.terminal import print
from aeflow.scoring.score_files import score_files
from aeflow.scoring.scorer import Scorer

POLL_SECONDS = 0.5  # in which a change by another process, as a retry, is seen
FEED_SECONDS = 5.0  # between two questions for changes
WAIT_SECONDS = 5.0  # before a queue that cannot be written is tried again
FORGET_SECONDS = 3600.0  # between two deletions of what is kept long enough
END_SECONDS = 30.0  # for the study that is being scored when a signal comes


class Node:
    """A node on its store; ``run`` returns after a signal, and raises what ended a thread."""

    def __init__(
        self, run: Path, settings: NodeSettings, folder: Path, backend: str = "auto", device: str = "auto"
    ) -> None:
        self.settings, self.folder = settings, folder
        self.store = Store(folder)
        self._open = ExitStack()
        try:
            self._open.enter_context(exclusive(folder / LOCK, folder, surely=True))
        except OutputError as error:
            raise OutputError(folder, "another node has this store", "stop it, or name another --store") from error
        self.queue = Queue(folder)
        self._open.callback(self.queue.close)
        runs = {None: run} | {rule.run: rule.run for rule in settings.rule if rule.run is not None}
        self._opened = {
            path: open_model(path, backend, device, wanted=Wanted(maps=True)) for path in dict.fromkeys(runs.values())
        }
        self.scorers = {name: self._opened[path] for name, path in runs.items()}
        self._stop, self._wake = threading.Event(), threading.Event()
        self._results = {one.name: threading.Event() for one in settings.destination}
        self._failed: BaseException | None = None

    def run(self, started: Callable[[int], None] = lambda port: None) -> None:
        """Serve until SIGTERM or SIGINT; ``started`` is called with the port once everything is ready."""
        with self._open:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._stop.set())
            left = self.store.sweep(*self.queue.names())
            if left:
                print(f"note: {count(left, 'file')} of a former process deleted, never acknowledged", file=sys.stderr)
            for scorer in self._opened.values():
                scratch = self.store.scratch()
                warm_up(scorer, scratch)
                shutil.rmtree(scratch)
            self.queue.restart(self.settings.quiet_seconds)
            threading.excepthook = _said  # of pynetdicom's threads, which a hostile peer can end
            intake = Intake(self.settings, self.queue, self.store, self._wake.set)
            receiver = Receiver(self.settings, intake)
            threads = [threading.Thread(target=self._guarded, args=(self._score,), name="scoring")]
            for destination in self.settings.destination:
                courier = Courier(self.settings, self.queue, self.store, destination, self._stop)
                threads.append(threading.Thread(target=self._guarded, args=(self._send, courier), name="sending"))
            if self.settings.orthanc is not None:
                feed = ChangeFeed(self.settings.orthanc, intake, self.queue, self._stop)
                threads.append(threading.Thread(target=self._guarded, args=(self._follow, feed), name="following"))
            try:
                port = receiver.start()
            except OSError as error:
                where = f"{self.settings.host}:{self.settings.port}"
                raise AeflowError(where, broken(error, where).found, "name another --port or --host") from error
            for thread in threads:
                thread.daemon = True  # one that hangs must not keep the process
                thread.start()
            started(port)
            while not self._stop.wait(FORGET_SECONDS):
                self._forget()
            receiver.stop()
            self._wake.set()
            for event in self._results.values():
                event.set()
            until = time.monotonic() + END_SECONDS
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            if self._failed is not None:
                raise self._failed

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Run a thread's work until the end; a full disk makes it wait, any other failure ends the node.

        A supervisor then starts it again.
        """
        while not self._stop.is_set():
            try:
                work(*arguments)
            except sqlite3.OperationalError as error:
                print(f"{self.queue.where}: {error}; tried again", file=sys.stderr, flush=True)
                self._stop.wait(WAIT_SECONDS)
            except BaseException as error:
                self._failed = error
                self._stop.set()

    def _score(self) -> None:
        worker = StudyScorer(self.settings, self.queue, self.store, self.scorers)
        while not self._stop.is_set():
            self._wake.clear()
            if worker.score_next():
                for event in self._results.values():
                    event.set()
            else:
                self._wait()

    def _wait(self) -> None:
        """Wait until a study is due; objects that come meanwhile only put that off."""
        pause = self.queue.seconds_to_next(POLL_SECONDS)
        if pause >= POLL_SECONDS:
            self._wake.wait(POLL_SECONDS)
        elif pause > 0:
            self._stop.wait(pause)

    def _send(self, courier: Courier) -> None:
        event = self._results[courier.name]
        while not self._stop.is_set():
            event.clear()
            if not courier.send_due():
                event.wait(POLL_SECONDS)

    def _follow(self, feed: ChangeFeed) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                wait = 0.0 if feed.follow() else FEED_SECONDS
                failures = 0
            except (FeedError, OSError) as error:  # of the network, or of a disk that is full
                wait = back_off(failures)
                failures += 1
                print(f"orthanc: {error}; tried again", file=sys.stderr, flush=True)
            self._wake.set()
            self._stop.wait(wait)

    def _forget(self) -> None:
        """Delete what is kept long enough."""
        before = time.time() - 86400 * self.settings.keep_days
        if self.settings.orthanc is not None:
            FeedPlace(self.queue, self.settings.orthanc.address).forget(before)
        objects, results = self.queue.names()
        if self.queue.forget(before):
            left, unsent = self.queue.names()
            self.store.forget(objects - left, results - unsent)


def _said(ended: threading.ExceptHookArgs) -> None:
    """Say in one line that a connection's thread has failed; its peer is refused, and no other notices."""
    print(f"a connection was ended: {ended.exc_type.__name__}", file=sys.stderr, flush=True)


def warm_up(scorer: Scorer, folder: Path) -> None:
    """Take a picture of noise through all that a study goes through, so that the first one does not wait for it.

    Raises what a study would meet.
    """
    path = folder / "noise.dcm"
    _noise().save_as(path, enforce_file_format=True)
    size = scorer.backend.size
    for decoded in [decoders().submit(load, path, size) for _ in range(WORKERS)]:  # each worker has to be started
        decoded.result()
    record = Record(path, path.name, None, None, "nobody", None, None)
    model = ModelIdentity(scorer.fingerprint, scorer.calibration)
    sink = StudyResults(folder, model, ("report", "overlay", "map"), {path: ""}, 0.05, outside=True)
    with listening(lambda done, total, what: None):
        done = score_files(scorer, [record], [sink])
    for _, error in done.refusals:
        raise error
    sink.finish()
    for refused in sink.refused:
        raise ImageError(path, refused.found, "check the installation: aeflow info --check")


def _noise() -> Dataset:
    """Return an X-ray of noise that belongs to nobody."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = ComputedRadiographyImageStorage
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(data, keyword, uid("noise", keyword))
    data.Modality, data.PatientID, data.PatientName = "CR", "", ""
    data.Rows = data.Columns = 512
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8).tobytes()
    return data
