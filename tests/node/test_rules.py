"""Rules of one file on the whole way: which run scores an image, where its results go, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aeflow.deploy.open_model import open_model
from aeflow.training.train import Trained
from helpers.dicom_sources import texture, write
from helpers.orthanc import NodeProcess, needed, orthanc, storescu, wait_for

RULES = """
quiet_seconds = 1
[[destination]]
name = "first"
address = "127.0.0.1:{first}:PACS"
[[destination]]
name = "second"
address = "127.0.0.1:{second}:PACS"
[[rule]]
source = ["TEACHING"]
action = "skip"
[[rule]]
modality = ["CR", "DX"]
body_part = ["CHEST"]
outside = "send"
to = ["first"]
[[rule]]
modality = ["MR"]
body_part = ["BRAIN", "HEAD"]
run = "brain"
send = ["report"]
outside = "send"
to = ["second"]
"""


def sent(port: int, folder: Path, number: int, kind: str, body_part: str, title: str = "MODALITY") -> None:
    """Send an image of a study by itself."""
    file = write(
        folder / f"{number}.dcm", kind, (255 * texture(64, 64, seed=number)).astype(np.uint8),
        StudyInstanceUID=f"1.2.5.{number}", SOPInstanceUID=f"1.2.5.{number}.1", BodyPartExamined=body_part,
    )  # fmt: skip
    done = storescu(port, file, title=title)
    assert done.returncode == 0, done.stderr


def test_each_rule_has_its_run_and_its_destination_and_the_rest_is_skipped(
    tmp_path: Path, openvino_export: Path, trained: Trained, run: Path
) -> None:
    needed("storescu")
    (tmp_path / "brain").symlink_to(run)
    with orthanc(tmp_path / "first") as first, orthanc(tmp_path / "second") as second:
        (tmp_path / "node.toml").write_text(RULES.format(first=first.dicom, second=second.dicom))
        with NodeProcess(openvino_export, tmp_path, "--port", 0, "--config", tmp_path / "node.toml") as node:
            sent(node.port, tmp_path, 1, "CR", "CHEST")
            sent(node.port, tmp_path, 2, "MR", "HEAD")
            sent(node.port, tmp_path, 3, "MR", "KNEE")  # which no rule names
            sent(node.port, tmp_path, 4, "CR", "CHEST", title="TEACHING")
            wait_for(lambda: node.state()["studies"] == {"scored": 2}, 60, pause=0.5)
            wait_for(lambda: first.count(Modality="SR") and second.count(Modality="SR"), 60, pause=0.5)
            assert node.state()["destinations"] == {"first": {"sent": 2}, "second": {"sent": 1}}
        [chest], [brain] = (pacs.instances(Modality="SR") for pacs in (first, second))
        assert (chest.StudyInstanceUID, brain.StudyInstanceUID) == ("1.2.5.1", "1.2.5.2")
        models = [open_model(path).fingerprint for path in (openvino_export, run)]
        assert [chest.DeviceSerialNumber, brain.DeviceSerialNumber] == models
        assert models[0] != models[1]
        assert first.count() == 2, "the report and its overlay"
        assert second.count() == 1
