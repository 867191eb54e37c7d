"""A file that broke a limit is refused once; the time of its images adds up."""

from __future__ import annotations

import pytest

from aeflow.imageio.decoder_pool import Decoders
from aeflow.imageio.errors import FileError, ImageError, ImageLimitError
from aeflow.imageio.file_costs import FileCosts
from aeflow.imageio.limits import Limits
from helpers.worker_tasks import crash, double

LIMITS = Limits(max_seconds=1.0, max_memory=2**28)


def test_what_refused_a_file_once_refuses_its_other_images_at_once(tmp_path):
    hostile, good = tmp_path / "hostile", tmp_path / "good"
    hostile.write_bytes(b"1")
    good.write_bytes(b"1")
    with Decoders(LIMITS, workers=1) as pool:
        first = pool.submit(crash, hostile, "hang")
        rest = [pool.submit(double, hostile, i) for i in range(200)]
        others = [pool.submit(double, good, i) for i in range(3)]
        refusal = first.exception(timeout=60)
        assert isinstance(refusal, ImageLimitError)
        assert {future.exception(timeout=60) for future in rest} == {refusal}
        assert [future.result(timeout=60) for future in others] == [0, 2, 4]
        hostile.write_bytes(b"mended")
        assert pool.submit(double, hostile, 21).result(timeout=60) == 42


def test_the_refusal_of_an_image_is_not_its_files(tmp_path):
    costs = FileCosts(LIMITS)
    costs.add(tmp_path, 1, 0.1, ImageError(tmp_path, "a damaged frame", "export it again"))
    assert costs.refusal(tmp_path) is None
    costs.add(tmp_path, 2, 0.1, FileError(tmp_path, "damaged", "export it again"))
    assert costs.refusal(tmp_path) is not None


@pytest.mark.parametrize(("seconds", "images", "refused"), [(0.9, 2, True), (0.05, 500, False), (0.04, 5000, False)])
def test_images_of_a_file_have_one_budget(tmp_path, seconds, images, refused):
    costs = FileCosts(LIMITS)
    for call in range(images):
        costs.add(tmp_path, call, seconds, None)
    assert (costs.refusal(tmp_path) is not None) == refused


def test_reading_an_image_again_costs_its_file_nothing(tmp_path):
    costs = FileCosts(LIMITS)
    for _ in range(100):
        costs.add(tmp_path, 1, 0.9, None)
    assert costs.refusal(tmp_path) is None
