"""Thousands of hostile files: each ends in an image or a refusal, in time and within memory, and the run goes on."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aeflow.imageio.decoder_pool import Decoders
from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.limits import Limits
from aeflow.runtime.machine import resident_mb
from helpers import hostile_files
from helpers.hostile_seeds import CANARY, seeds
from helpers.worker_tasks import attempt

SAMPLED = 200  # files after which memory is measured again
FRESH = (1, 2)  # seeds of the long tests, which nothing was mended on
LIMITS = Limits(max_seconds=3.0, max_memory=2**30, max_pixels=2**24, max_frames=1000, max_inflated=2**26)

pytestmark = [
    pytest.mark.timing,
    pytest.mark.skipif(sys.platform != "linux", reason="workers have a memory limit on Linux"),
]


@pytest.fixture(scope="module")
def pool():
    with Decoders(LIMITS) as pool:
        yield pool


def test_the_seeds_are_good_files(pool, tmp_path):
    for seed in seeds():
        path = tmp_path / seed.name
        path.write_bytes(seed.content)
        outcome = pool.submit(attempt, path, LIMITS).result()[0]
        assert not isinstance(outcome, ImageError), f"{seed.name}: {outcome}"


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in FRESH)])
def test_every_hostile_file_is_an_image_or_a_refusal(pool, tmp_path, seed, record_property):
    began = time.perf_counter()
    futures = {}
    for name, content in hostile_files.corpus(seed):
        path = tmp_path / name
        path.write_bytes(content)
        futures[name] = pool.submit(attempt, path, LIMITS)
    ends: Counter[str] = Counter()
    lost = []  # ended by the parent, or by themselves
    slowest, peak = (0.0, ""), (0, "")
    resident = [resident_mb(os.getpid())]
    for name, future in futures.items():
        try:
            outcome, seconds, used = future.result(timeout=60)
        except ImageError as error:  # the worker's own, or its parent's
            outcome, seconds, used = error, 0.0, 0
        if len(resident) * SAMPLED < sum(ends.values()):  # it takes long to ask
            resident.append(resident_mb(os.getpid()))
        slowest, peak = max(slowest, (seconds, name)), max(peak, (used, name))
        if isinstance(outcome, ImageError):
            assert outcome.where == str(tmp_path / name)
            assert CANARY.decode() not in outcome.found + outcome.remedy
            assert "\n" not in str(outcome)
            assert "its reader failed" not in outcome.found, f"{name}: {outcome.found}"
            ends["limit" if isinstance(outcome, ImageLimitError) else "refused"] += 1
            if "its decoder died" in outcome.found or "took longer" in outcome.found or "memory" in outcome.found:
                lost.append(f"{name}: {outcome.found}")
        else:
            ends["image"] += 1
    print(f"{len(futures)} files in {time.perf_counter() - began:.1f} s: {dict(ends)}; lost {lost}")
    print(f"slowest {slowest}; peak {peak}")
    record_property("hostile files", len(futures))
    for end, number in ends.items():
        record_property(f"hostile files: {end}", number)
    record_property("hostile files: ended by a limit of time or memory", len(lost))
    record_property("most megabytes of a worker", peak[0] // 10**6)
    record_property("most megabytes that the process and its workers grew", round(max(resident) - resident[0]))
    assert len(futures) >= 2000
    assert ends["image"] > 100
    assert ends["refused"] > 1000
    assert ends["limit"] > 50
    assert len(lost) <= 10, lost  # the readers' own limits stop nearly all
    assert slowest[0] < LIMITS.max_seconds
    assert peak[0] < LIMITS.max_memory + 2**28  # and what the readers themselves take


EDIT = st.tuples(
    st.sampled_from(["set", "cut", "insert", "copy"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=8),
)


def edited(content: bytes, edits: list[tuple[str, float, float, bytes]]) -> bytes:
    for kind, first, second, value in edits:
        at, other = int(first * len(content)), int(second * len(content))
        before, after = content[:at], content[at:]
        content = {
            "set": before + value + after[len(value) :],
            "cut": before + after[other // 20 :],
            "insert": before + value + after,
            "copy": before + content[other : other + 64] + after,
        }[kind]
    return content


SEEDS = {seed.name: seed for seed in seeds()}


@settings(max_examples=200, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(SEEDS)), st.lists(EDIT, min_size=1, max_size=5))
def test_fuzz(pool, tmp_path, name, edits):
    path = tmp_path / "fuzzed"
    path.write_bytes(SEEDS[name].wrap(edited(SEEDS[name].inner, edits)))
    try:
        outcome, _, used = pool.submit(attempt, path, LIMITS).result(timeout=60)
    except ImageError as error:
        outcome, used = error, 0
    assert used < LIMITS.max_memory + 2**28
    assert not isinstance(outcome, ImageError) or "its reader failed" not in outcome.found
