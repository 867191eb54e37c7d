"""Runs of the first release are read by this one, with the scores that they had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aeflow.artifacts.layout import read_metadata, write_checked
from aeflow.artifacts.run import load_run, save_run, self_test
from aeflow.artifacts.upgrade import SCHEMA, upgraded_names
from aeflow.config import AEFLOW_1
from aeflow.errors import ArtifactError
from aeflow.runtime.files import file_digest

OLD = Path(__file__).parent / "first_release_run"  # trained by version 0.1.0 on generated textures, with five labels


def test_an_old_run_scores_as_it_did(tmp_path: Path) -> None:
    old = json.loads((OLD / "model.json").read_text())
    assert (old["schema"], old["settings"]["prior"]) == (5, "gmm")
    artifact = load_run(OLD)
    assert (artifact.settings.classifier, artifact.settings.prior) == ("mixture", "normal")
    chosen = {name: getattr(artifact.settings, name) for name in AEFLOW_1}
    assert chosen == AEFLOW_1  # the whole image, by flow and reconstruction
    assert artifact.net.region is None
    assert artifact.metadata["labelled_set"] == old["lesson"]
    assert artifact.fingerprint == old["sha256"]
    np.testing.assert_allclose(self_test(artifact), old["self_test"], rtol=1e-5)
    assert artifact.calibration.threshold == old["calibration"]["threshold"]
    assert artifact.calibration.scores == old["calibration"]["scores"]


def test_an_old_run_saved_again_is_a_new_one_with_the_same_scores(tmp_path: Path) -> None:
    old = load_run(OLD)
    save_run(old, tmp_path)
    new = load_run(tmp_path)
    assert read_metadata(tmp_path)["schema"] == SCHEMA == 7
    assert self_test(new) == self_test(old)
    assert new.calibration == old.calibration
    tensors = load_file(tmp_path / "model.safetensors")
    assert {
        "terms.reconstruction.mean_image",
        "decoder.mean_image",
        "latent_pca.mean",
        "latent_pca.directions",
    } <= tensors.keys()
    assert upgraded_names(tensors).keys() == tensors.keys()


def test_a_checksum_is_that_of_the_file_as_it_was_written(tmp_path: Path) -> None:
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    tensors = load_file(run / "model.safetensors")
    tensors["usual"] = tensors["usual"] + 1
    save_file(tensors, run / "model.safetensors")
    with pytest.raises(ArtifactError, match="checksum differs"):
        load_run(run)
    content = json.loads((run / "model.json").read_text())
    del content["sha256"]
    write_checked(run / "model.json", {**content, "weights_sha256": file_digest(run / "model.safetensors")})
    edited, as_it_was = (load_run(one).net.terms["reconstruction"].mean_image.mean() for one in (run, OLD))
    assert float(edited) == pytest.approx(float(as_it_was) + 1)


@pytest.mark.parametrize("gone", ["lesson", "calibration", "settings"])
def test_an_old_run_that_lacks_something_is_refused(gone: str, tmp_path: Path) -> None:
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    content = json.loads((run / "model.json").read_text())
    write_checked(run / "model.json", {name: value for name, value in content.items() if name not in (gone, "sha256")})
    with pytest.raises(
        ArtifactError, match=r"does not describe a model of an earlier schema .*load it with the version that wrote"
    ):
        load_run(run)


def test_another_schema_is_named(tmp_path: Path) -> None:
    write_checked(tmp_path / "model.json", {"schema": 4})
    with pytest.raises(ArtifactError, match="has schema 4 where this version reads 7 and 5 and 6"):
        load_run(tmp_path)
