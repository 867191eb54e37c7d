"""Contract of all backends: the same scores whoever runs the network, and nothing computed that nobody asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from aeflow.artifacts.exported_graph import load_export
from aeflow.artifacts.run import load_run
from aeflow.backends.base import BackendOutput
from aeflow.backends.registry import BACKENDS, GRAPH_BACKENDS
from aeflow.data.records import find_images, read_records
from aeflow.imageio.errors import ImageError
from aeflow.model import output_names
from aeflow.scoring.scorer import Scorer, score
from helpers.data import SIZE
from helpers.same_scores import assert_same_scores, scores

# Each backend with each format of graph that it runs: OpenVINO reads ONNX, so that such an export needs nothing more.
RUNS = [("torch", None), *((name, form) for name, backend in GRAPH_BACKENDS.items() for form in backend.formats)]
X = np.random.default_rng(0).random((3, 3, SIZE, SIZE), np.float32)


@pytest.fixture(scope="module")
def reference(tiny_run: Path) -> Scorer:
    return load_run(tiny_run).scorer


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: " ".join(filter(None, run)))
def scorer(request: pytest.FixtureRequest, tiny_run: Path, exports: Callable[[str], Path]) -> Scorer:
    """The tiny run's scorer in one of the backends."""
    name, form = request.param
    found = load_run(tiny_run).scorer if form is None else load_export(exports(form), name)
    assert found.backend.name == name
    return found


def test_every_backend_is_tried() -> None:
    assert {"auto", *(name for name, _ in RUNS)} == set(BACKENDS)
    assert all(name in backend.formats for name, backend in GRAPH_BACKENDS.items())


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_every_backend_gives_the_same(scorer: Scorer, reference: Scorer, data: Path, batch_size: int) -> None:
    records = read_records(data, "test")
    assert_same_scores(
        scores(scorer, records, maps=True, batch_size=batch_size), scores(reference, records, maps=True), reference
    )


def test_order_and_refusals_are_the_same(scorer: Scorer, reference: Scorer, data: Path, tmp_path: Path) -> None:
    good = sorted((data / "test" / "normal").iterdir())[:3]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"GIF? no")
    records = find_images([bad, good[0], bad, good[1], good[2], bad])
    found = []
    for one in (reference, scorer):
        rows = list(score(one, records, batch_size=2))
        assert [record.path for record, _ in rows] == [record.path for record in records]
        found.append([str(result) if isinstance(result, ImageError) else "" for _, result in rows])
    assert found[0] == found[1]


def test_measures_are_float64_and_of_every_term(scorer: Scorer, reference: Scorer) -> None:
    found = scorer.backend.run(X)
    assert scorer.backend.size == SIZE
    assert found.measures.keys() == {*reference.settings.chosen_terms}
    for values in (*found.measures.values(), found.log_ratios, found.input_statistics):
        assert values.dtype == np.float64
        assert len(values) == len(X)
        assert np.isfinite(values).all()


def test_only_what_is_asked_for_comes_back(scorer: Scorer) -> None:
    plain, whole = scorer.backend.run(X), scorer.backend.run(X, maps=True, pictures=True)
    assert (plain.maps, plain.x_hat) == ({}, None)
    mapped = scorer.backend.run(X, maps=True)
    assert mapped.x_hat is None
    assert mapped.maps.keys() == {"anomaly"}, "the residual map needs the reconstruction"
    np.testing.assert_allclose(mapped.maps["anomaly"], whole.maps["anomaly"], rtol=1e-5, atol=1e-5)
    assert scorer.backend.run(X, pictures=True).maps == {}
    assert {name: m.shape for name, m in whole.maps.items()} == dict.fromkeys(output_names.MAPS, (3, SIZE, SIZE))
    assert {m.dtype for m in (*whole.maps.values(), whole.x_hat)} == {np.dtype(np.float32)}
    assert whole.x_hat is not None
    assert whole.x_hat.shape == X.shape
    assert_same(plain, whole, rtol=1e-5)


def test_neighbours_in_a_batch_do_not_matter(scorer: Scorer) -> None:
    together = scorer.backend.run(X)
    alone = [scorer.backend.run(X[i : i + 1]) for i in range(len(X))]
    for name, values in together.measures.items():
        np.testing.assert_allclose(values, np.concatenate([one.measures[name] for one in alone]), rtol=1e-4)
    turned = scorer.backend.run(np.ascontiguousarray(X[::-1]))
    for name, values in together.measures.items():
        np.testing.assert_allclose(values, turned.measures[name][::-1], rtol=1e-4)


def test_threads_get_their_own_scores(scorer: Scorer) -> None:
    """Several threads may ask one model, as a server's do; each gets what it would get alone."""
    alone = [scorer.backend.run(X[i : i + 1]).measures for i in range(len(X))]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: scorer.backend.run(X[i % 3 : i % 3 + 1]).measures, range(24)))
    for i, measures in enumerate(found):
        for name, values in alone[i % 3].items():
            np.testing.assert_allclose(measures[name], values, rtol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_thread_is_bound_to_a_core(scorer: Scorer) -> None:
    """Else the graphs of two processes share one core, and leave the others idle."""
    allowed, bound = os.sched_getaffinity(0), set[str]()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: [scorer.backend.run(X) for _ in range(30)])
        while not running.done():  # OpenVINO binds them while they compute
            for path in Path("/proc/self/task").iterdir():
                with suppress(ProcessLookupError):  # it has just ended
                    if os.sched_getaffinity(int(path.name)) != allowed:
                        bound.add((path / "comm").read_text())
    assert not bound


def test_how_images_lie_in_memory_does_not_matter(scorer: Scorer) -> None:
    other = np.ascontiguousarray(X.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    before = other.copy()
    for name, values in scorer.backend.run(X).measures.items():
        np.testing.assert_array_equal(scorer.backend.run(other).measures[name], values)
    np.testing.assert_array_equal(other, before)  # nor does running change them


def test_a_graph_computes_the_outputs_that_are_named(exports: Callable[[str], Path]) -> None:
    for name, form in RUNS[1:]:
        backend = load_export(exports(form), name).backend
        for asked in ((output_names.SCORE,), (output_names.X_HAT, output_names.P_VALUE)):
            found = backend.outputs(X, asked)
            assert tuple(found) == asked
            assert all(len(values) == len(X) for values in found.values())


def assert_same(a: BackendOutput, b: BackendOutput, rtol: float) -> None:
    for name, values in a.measures.items():
        np.testing.assert_allclose(values, b.measures[name], rtol=rtol)
