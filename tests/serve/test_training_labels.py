"""Labels that readers gave become train images, beside the data folder's own, which stay as they are."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from aeflow.data.plain_folders import records_of
from aeflow.data.reader_labels import with_reader_labels
from aeflow.data.slices import unfold
from aeflow.errors import DataError
from aeflow.imageio.masks import read_mask_of
from aeflow.imageio.reader import read_image
from aeflow.serve.drawn_masks import mask_of
from aeflow.serve.training_labels import labelled_records
from helpers import dicom_files
from helpers.data import lesion, texture
from helpers.service import Running


def put(client: httpx.Client, pixels: np.ndarray, name: str = "image.png") -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    [row] = client.post("/api/score", files={"files": (name, content.getvalue())}).json()["results"]
    return row["id"]


def label(client: httpx.Client, image: str, **given: object) -> None:
    client.post(f"/api/images/{image}/label", json=given).raise_for_status()


def test_labels_become_train_images_beside_the_datas_own(service: Running, client: httpx.Client, data: Path) -> None:
    with pytest.raises(DataError, match="no reader has called"):
        labelled_records(service.folder / "worklist.db", records_of(data))
    region = [0.25, 0.25, 0.75, 0.5]
    label(client, put(client, texture(9000)), label="normal")
    label(client, put(client, lesion(9001)[0]), label="abnormal", kind="nodule", regions=[region])
    label(client, put(client, texture(9002)), label="unsure")
    tested = client.post("/api/score", files={"files": (data / "test/normal/000.png").open("rb")}).json()["results"]
    label(client, tested[0]["id"], label="normal")  # in the data folder already, in its test split
    records, notes = labelled_records(service.folder, records_of(data))
    assert [note.partition(":")[0] for note in notes] == ["1 labelled image left out"]
    both, said = with_reader_labels(data, records)
    assert said[0] == "readers add 1 normal image and 1 abnormal"
    assert "whose own label stays" in said[1]
    assert both.implied_settings == {"labels": None}
    train = unfold(records_of(both, "train"))
    own = unfold(records_of(data, "train"))
    assert train[: len(own)] == own
    normal, ill = sorted(train[len(own) :], key=lambda record: record.label)
    assert (normal.label, ill.label, ill.kind) == (0, 1, "nodule")
    mask = np.asarray(Image.open(ill.mask)) > 0
    assert mask.shape == (64, 64)
    assert mask[16:32, 16:48].all()
    assert mask.sum() == 16 * 32


def turned_volume(place: Path) -> None:
    """Write a volume of three slices whose voxels are stored in an odd order, with some space between them."""
    import nibabel

    voxels = np.stack([texture(9100 + i) for i in range(3)], axis=0).astype(np.int16)
    affine = np.array([[0, 0, -2.0, 10], [0, 1.5, 0, -7], [4.0, 0, 0, 3], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), place)


def frames(place: Path) -> None:
    """Write a DICOM file of three frames, higher than wide."""
    images = np.stack([texture(9200 + i)[:, :48] for i in range(3)])
    place.write_bytes(dicom_files.content(dicom_files.dataset(images, frames=3)))


@pytest.mark.parametrize(("write", "name"), [(turned_volume, "volume.nii.gz"), (frames, "frames.dcm")])
def test_a_region_drawn_on_a_slice_is_the_mask_of_that_slice(service, client, write, name: str, tmp_path) -> None:
    write(tmp_path / name)
    rows = client.post("/api/score", files={"files": (tmp_path / name).open("rb")}).json()["results"]
    assert len(rows) == 3
    region = [0.25, 0.5, 0.75, 0.625]
    label(client, rows[1]["id"], label="abnormal", regions=[region])
    label(client, rows[2]["id"], label="abnormal")
    records, _ = labelled_records(service.folder, [])
    content = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    drawn, plain = [record for record in unfold(records) if record.path.name == content]
    assert (drawn.slice_number, drawn.label, plain.slice_number, plain.label) == (2, 1, 3, 1)
    assert plain.mask is None
    height, width = read_image(drawn.path, at=drawn.at).pixels.shape
    found = read_mask_of(drawn.path, drawn.mask, at=drawn.at)  # refuses a mask that lies elsewhere
    assert np.array_equal(found, mask_of([region], height, width) > 0)
    assert not read_mask_of(drawn.path, drawn.mask, at=plain.at).any()
    written = drawn.mask.stat().st_mtime_ns
    labelled_records(service.folder, [])
    assert drawn.mask.stat().st_mtime_ns == written
