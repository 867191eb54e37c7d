"""Ranks: the processes of one training, as torchrun starts them; with one process nothing here does anything.

torchrun gives each process its number (``RANK``), their number (``WORLD_SIZE``) and a place to meet. Rank 0 reads,
decides, writes and prints. What takes long is divided: each rank takes its ``share`` and ``add_up`` or ``gathered``
brings the parts together. What is not worth dividing rank 0 does alone, and ``from_first`` gives the others its result.

    with joined():
        images = from_first(read)
        total = add_up([measure(share(images))])

Every process must call these functions in the same order. Waiting is done over gloo and may take PATIENCE, since a
calibration takes hours; tensors on a GPU are added up by NCCL. A process that has ended ends all: the others find
their connections closed.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from aeflow.errors import PeerError, SettingsError, count

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Items = TypeVar("Items", bound=Sequence[Any])

MEETING = timedelta(minutes=10)  # until all processes are there
PATIENCE = timedelta(days=7)  # of the others, while rank 0 works alone
HEARD = 1.0  # seconds until a silent process ends: torchrun then ends the others, and one of them has to say why
FEW = 4  # processes whose tensors are added by pairs
FAILED = "aeflow/failed"  # key of the number of processes that have failed, in the store where they met


@dataclass(frozen=True, slots=True)
class _Ranks:
    """This process among the others, and its ways to them."""

    number: int
    size: int
    of_node: int  # number of this process on its machine: that of its GPU
    store: Any
    cpu: Any  # group over gloo
    gpu: Any  # group over NCCL; None without a GPU


_ranks: _Ranks | None = None


def size() -> int:
    """Return the number of processes that train together."""
    return 1 if _ranks is None else _ranks.size


def launched() -> bool:
    """Return if torchrun started this process, alone or with others."""
    return bool(os.environ.get("WORLD_SIZE"))


def first() -> bool:
    """Return if this process is the one that reads, writes and prints; it is if there is no other."""
    return _ranks is None or _ranks.number == 0


def of_node() -> int:
    """Return the number of this process on its machine."""
    return 0 if _ranks is None else _ranks.of_node


def share(items: Items, batch: int = 1) -> Items:
    """Return this process's part of items, those of all processes one after the other; it may be empty.

    With ``batch`` each has whole batches of that size, but for the last one: the same batches that one process has.
    """
    if _ranks is None:
        return items
    batches = -(-len(items) // batch)
    start, stop = (number * batches // _ranks.size * batch for number in (_ranks.number, _ranks.number + 1))
    part: Items = items[start:stop]  # type: ignore[assignment]
    return part


def from_first(compute: Callable[[], T]) -> T:
    """Return what ``compute`` gives on rank 0, which alone calls it; all wait for it."""
    if _ranks is None:
        return compute()
    import torch
    import torch.distributed as dist

    sent: list[Any] = [None]
    if _ranks.number == 0:
        result, buffer = compute(), io.BytesIO()
        torch.save(result, buffer)
        sent = [buffer.getvalue()]
    with _talking():
        dist.broadcast_object_list(sent, src=0, group=_ranks.cpu)
    if _ranks.number == 0:
        return result
    # from a process of this very training; what is on the GPU of rank 0 comes to this process's
    found: T = torch.load(io.BytesIO(sent[0]), {"cuda:0": f"cuda:{_ranks.of_node}"}, weights_only=False)
    return found


def gathered(value: T) -> list[T]:
    """Return the values of all processes, in their order; tensors must be on the CPU."""
    if _ranks is None:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * _ranks.size
    with _talking():
        dist.all_gather_object(found, value, group=_ranks.cpu)
    return found


def to_first(value: T) -> list[T]:
    """Return the values of all processes on rank 0, in their order, and none elsewhere; tensors must be on the CPU."""
    if _ranks is None:
        return [value]
    import torch.distributed as dist

    found: list[Any] | None = [None] * _ranks.size if _ranks.number == 0 else None
    with _talking():
        dist.gather_object(value, found, dst=0, group=_ranks.cpu)
    return found or []


def add_up(tensors: Sequence[Tensor]) -> None:
    """Add to tensors those of all other processes, in place; all have the same device and type.

    On processors FEW processes, or fewer, add in the order of ``added_by_pairs``; others in any.
    """
    if _ranks is None or not tensors:
        return
    import torch
    import torch.distributed as dist

    flat = _flat(tensors)
    if flat.is_cuda or _ranks.size > FEW:
        with _talking():
            dist.all_reduce(flat, group=_ranks.gpu if flat.is_cuda else _ranks.cpu)
    else:
        parts = [torch.empty_like(flat) for _ in range(_ranks.size)]
        with _talking():
            dist.all_gather(parts, flat, group=_ranks.cpu)
        flat = added_by_pairs(parts)
    _unflatten(flat, tensors)


def added_by_pairs(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors, at least one, in the order ``(a + b) + (c + d)``."""
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def add_up_gradients(parameters: Sequence[Tensor]) -> None:
    """Add to the gradients of parameters those of all other processes; who has none adds 0."""
    if _ranks is None:
        return
    import torch

    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    add_up([parameter.grad for parameter in parameters if parameter.grad is not None])


def copy_from_first(tensors: Sequence[Tensor]) -> None:
    """Give tensors the values that those of rank 0 have, in place."""
    if _ranks is None:
        return
    import torch.distributed as dist

    kinds = {(tensor.dtype, tensor.device): None for tensor in tensors}
    for kind in kinds:
        alike = [tensor for tensor in tensors if (tensor.dtype, tensor.device) == kind]
        flat = _flat(alike)
        with _talking():
            dist.broadcast(flat, src=0, group=_ranks.gpu if flat.is_cuda else _ranks.cpu)
        _unflatten(flat, alike)


def wait() -> None:
    """Wait until every process has come here."""
    gathered(None)


@contextmanager
def joined() -> Iterator[None]:
    """Work with the other processes that torchrun started, if it did; within another such context nothing changes.

    Only rank 0 prints. An error of any process ends all: the first that fails raises its error here, the others end
    with exit code 2 and without a word. Raises SettingsError if the processes cannot meet.
    """
    global _ranks
    if _ranks is not None or _environment("WORLD_SIZE", 1) == 1:
        yield
        return
    speak = _hushed() if _environment("RANK", 0) > 0 else lambda: None
    try:
        _ranks = meeting = _meet()
    except BaseException:
        speak()
        raise
    try:
        yield
        _part()
    except BaseException as error:
        if _speaks(meeting, error):
            speak()
            raise
        time.sleep(HEARD)
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from None  # still without a word
    finally:
        _ranks = None
    speak()


def _hushed() -> Callable[[], None]:
    """Let this process print nothing, libraries that are not of Python included; return what ends that."""
    streams, places = (sys.stdout, sys.stderr), (1, 2)
    for stream in streams:
        stream.flush()
    kept = [os.dup(place) for place in places]
    with open(os.devnull, "wb") as nowhere:
        for place in places:
            os.dup2(nowhere.fileno(), place)

    def speak() -> None:
        for stream in streams:
            stream.flush()
        for place, former in zip(places, kept, strict=True):
            os.dup2(former, place)
            os.close(former)

    return speak


def _meet() -> _Ranks:
    """Return this process's place among the others once all are there."""
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    try:
        store, number, size = next(iter(rendezvous("env://", timeout=MEETING)))
        dist.init_process_group("gloo", store=store, rank=number, world_size=size, timeout=MEETING)
        cpu = dist.new_group(backend="gloo", timeout=PATIENCE)
        gpu = None
        if torch.cuda.is_available() and dist.is_nccl_available():
            gpu = dist.new_group(backend="nccl", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        found = f"{count(_environment('WORLD_SIZE', 1), 'process', 'processes')} cannot meet ({_line(error)})"
        raise SettingsError("torchrun", found, "start all of them with torchrun, as docs/clusters.md says") from error
    return _Ranks(number, size, _environment("LOCAL_RANK", number), store, cpu, gpu)


def _part() -> None:
    """Leave the others."""
    import torch.distributed as dist

    dist.destroy_process_group()


def _speaks(ranks: _Ranks, error: BaseException) -> bool:
    """Return if this process is the one that says why the training ends: the first that fails."""
    try:
        return int(ranks.store.add(FAILED, 1)) == 1
    except RuntimeError:  # the process that held the store has ended, and has said why
        return not isinstance(error, PeerError)


@contextmanager
def _talking() -> Iterator[None]:
    """Raise PeerError if another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        found = f"another of {size()} processes has ended without a word"
        remedy = "see the system's log (often memory ran out), then go on with --resume"
        raise PeerError("training", found, remedy) from error


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return the values of tensors in one."""
    import torch

    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _unflatten(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """Put the values back."""
    import torch

    for tensor, values in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.detach().copy_(values.view(tensor.shape))


def _environment(name: str, default: int) -> int:
    """Return a number that the launcher set; raises SettingsError for anything else."""
    value = os.environ.get(name, "")
    if value and not value.isdecimal():
        raise SettingsError(name, f"{value!r} is no number", "let torchrun set it, or unset it")
    return int(value) if value else default


def _line(error: Exception) -> str:
    """Return the beginning of a library's message."""
    return str(error).partition("\n")[0][:200]
