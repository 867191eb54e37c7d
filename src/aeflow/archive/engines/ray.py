"""Engine of Ray: the parts as blocks of a Ray Dataset, whose actors have a worker process each, on one machine or many.

The worker process is that of the local engine, with its rule for images that kill; what Ray itself adds is that an
actor that is lost with its machine is started elsewhere. Model, sources and package must be on every machine under the
same paths. Ray is for machines that trust one another: it sends code between them.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aeflow.archive.engines.base import Engine, Opens
from aeflow.archive.engines.local import CORES_OF_ONE, LocalEngine
from aeflow.archive.engines.worker import packed, unpacked
from aeflow.archive.plan import Part, as_batch, from_batch
from aeflow.errors import AeflowError, SettingsError
from aeflow.runtime.extras import extra

if TYPE_CHECKING:
    import pyarrow as pa

RETRIES = 3  # of the first look at the model; a part whose actor was lost is scored elsewhere, however often
WINDOW = 4096  # parts of one dataset: their blocks wait in Ray's memory
# Variables that decide scores and pseudonyms; the salt goes with the opening.
VARIABLES = ("AEFLOW_LIMITS", "AEFLOW_IDENTIFY")


class RayEngine(Engine):
    """Engine of Ray: a cluster at ``address`` (``auto``: the one that this machine is in), else Ray on this machine."""

    def __init__(self, workers: int | None, address: str | None) -> None:
        with extra("ray"):
            import ray
            import ray.data

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call a server
        os.environ.setdefault("RAY_worker_niceness", "0")  # or its workers starve where anything else computes
        try:
            ray.init(
                address=address or "local", include_dashboard=None if address else False, logging_level=logging.ERROR
            )
        except Exception as error:  # what it raises has no base in common: a slow start is a bare Exception
            found = f"no Ray at {address or 'this machine'} ({type(error).__name__})"
            raise SettingsError("--engine", found, "start it with ray start, or name its --address") from error
        self._ray = ray
        total = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        self.workers = workers or max(1, total // CORES_OF_ONE)
        self._threads = max(1, min(total // self.workers, CORES_OF_ONE))
        self._environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    def facts(self, opening: Opens) -> Any:
        """Return what a worker on one of the machines says."""
        ask = self._ray.remote(num_cpus=self._threads, max_retries=RETRIES)(facts_there)
        return self._raised(lambda: self._ray.get(ask.remote(opening, self._environment, self._threads)))

    def tables(self, opening: Opens, parts: Iterable[Part]) -> Iterator[tuple[int, pa.Table]]:
        """Yield each part's table as an actor has scored it."""
        rest = iter(parts)
        while blocks := [self._ray.put(as_block(part)) for part in itertools.islice(rest, WINDOW)]:
            yield from self._scored(opening, blocks)

    def _scored(self, opening: Opens, blocks: list[Any]) -> Iterator[tuple[int, pa.Table]]:
        from ray.data import ActorPoolStrategy, DataContext, from_arrow_refs

        DataContext.get_current().enable_progress_bars = False
        scored = from_arrow_refs(blocks).map_batches(
            PartActor,
            fn_constructor_args=(opening, self._environment, self._threads),
            batch_size=None,  # a block, which is a part
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(self.workers, len(blocks))),
            num_cpus=self._threads,
        )
        batches = iter(scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
        while (batch := self._raised(lambda: next(batches, None))) is not None:
            for row in batch.to_pylist():
                yield row["part"], unpacked(row["content"])

    def _raised(self, call: Any) -> Any:
        """Return a call's result; an error of the worker's own is raised as it is, one of Ray's in one line."""
        try:
            return call()
        except self._ray.exceptions.RayError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, AeflowError):
                cause = getattr(cause, "cause", None) or cause.__cause__
            if cause is not None:
                raise cause from error
            remedy = "look at Ray's logs, and repeat the command: it goes on where it was"
            raise AeflowError("ray", f"it gave up ({type(error).__name__})", remedy) from error


class PartActor:
    """Actor that hands parts to a worker process of its own."""

    def __init__(self, opening: Opens, environment: dict[str, str], threads: int) -> None:
        os.environ.update(environment)
        self._opening, self._engine = opening, LocalEngine(1, threads=threads)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return the number of each part in a block, and its table as bytes."""
        parts = [from_batch(unpacked(content).to_batches()[0]) for content in block.column("content").to_pylist()]
        return block_of((number, packed(table)) for number, table in self._engine.tables(self._opening, parts))


def facts_there(opening: Opens, environment: dict[str, str], threads: int) -> Any:
    """Return the facts of what is opened on whichever machine this runs."""
    os.environ.update(environment)
    with LocalEngine(1, threads=threads) as there:
        return there.facts(opening)


def as_block(part: Part) -> pa.Table:
    """Return a part's files as a block."""
    import pyarrow as pa

    return block_of([(part.number, packed(pa.Table.from_batches([as_batch(part)])))])


def block_of(rows: Iterable[tuple[int, bytes]]) -> pa.Table:
    """Return parts as a block of Ray's, one row each, since rows are never cut."""
    import pyarrow as pa

    numbers, contents = zip(*rows, strict=True)
    return pa.table({"part": pa.array(numbers, pa.int64()), "content": pa.array(contents, pa.large_binary())})
