"""A worklist that two models scored: each has its own order, labels stay with the images, and all is scored again."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from aeflow.data.records import find_images
from aeflow.deploy.open_model import open_model
from aeflow.scoring.scorer import score
from aeflow.serve.database import Database
from aeflow.serve.labels import Labels
from aeflow.serve.rounds import rounds
from aeflow.serve.tables import images
from helpers.service import send, serving

KEPT = ("patient", "study", "path", "slice")  # of a row, whichever model scored it


def kept_of(row: dict[str, Any]) -> tuple[object, ...]:
    return tuple(row[name] for name in KEPT)


def studies(client: httpx.Client, **asked: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/studies", params=asked).json()["studies"]
    return found


def label(client: httpx.Client, image: str, **given: object) -> None:
    assert client.post(f"/api/images/{image}/label", json=given).status_code == 200


def scored_again(client: httpx.Client, number: int) -> list[dict[str, Any]]:
    """Ask for all to be scored again, and wait for it."""
    assert client.post("/rescore").status_code == 303
    for _ in range(600):
        if len(found := studies(client)) == number:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{len(found)} of {number} are scored")


@pytest.fixture(scope="module")
def kept(openvino_export: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """A folder in which one model scored eight images, five of them labelled, and their rows."""
    folder = tmp_path_factory.mktemp("models") / "kept"
    paths = []
    for kind in ("normal", "abnormal"):
        for path in sorted((data / "test" / kind).iterdir())[:4]:
            paths.append(tmp_path_factory.mktemp(kind) / f"{kind} {path.name}")
            shutil.copyfile(path, paths[-1])
    with serving(openvino_export, folder) as running, running.client() as client:
        rows = [send(client, path, source=path.name.split()[0]).json()["results"][0] for path in paths]
        for row in rows[:3]:
            label(client, row["id"], label="normal")
        for row in rows[4:6]:
            label(client, row["id"], label="abnormal", kind="spot", regions=[[0.1, 0.1, 0.5, 0.5]])
    return folder, rows


def test_the_next_model_has_its_own_list_and_the_labels_of_the_images(kept, recalibrated_run: Path) -> None:
    folder, rows = kept
    with serving(recalibrated_run, folder) as running, running.client() as client:
        assert studies(client) == []  # p-values of two models have no common order
        assert len(studies(client, former="yes")) == len(rows)
        before = {study["id"]: study for study in studies(client, former="yes")}
        assert "8 files scored by former models alone" in client.get("/").text
        assert "Nothing is here yet" not in client.get("/").text
        found = scored_again(client, len(rows))
        # an image came when it came, whichever model scored it when
        assert sorted(study["at"] for study in found) == sorted(study["at"] for study in before.values())
        assert "former models alone" not in client.get("/").text
        assert sorted(study["source"] for study in found) == ["abnormal"] * 4 + ["normal"] * 4
        assert len(studies(client, label="any")) == 5
        again = [one for study in found for one in client.get(f"/api/studies/{study['id']}").json()["results"]]
        assert {kept_of(row) for row in again} == {kept_of(row) for row in rows}
        assert {row["id"] for row in again}.isdisjoint(row["id"] for row in rows)
        # what is taken back at one of them is taken back of the image
        [one] = [row for row in again if row["path"] == rows[0]["path"]]
        label(client, one["id"], label="none")
        assert len(studies(client, label="any")) == len(studies(client, label="any", former="yes")) == 4
        label(client, one["id"], label="normal")
        # what was said of it under the other model counts as the last word, too
        for image, given in ((rows[0]["id"], "unsure"), (one["id"], "normal"), (rows[0]["id"], "unsure")):
            label(client, image, label=given)
            assert len(studies(client, label=given)) == len(studies(client, label=given, former="yes"))
        assert len(studies(client, label="unsure")) == 1
        label(client, one["id"], label="normal")
    database = Database(folder / "worklist.db")
    try:
        agreed, disputed = Labels(database).agreed()
        assert (len(agreed), disputed) == (5, 0)
        assert {one.kind for one in agreed if one.label == "abnormal"} == {"spot"}
        with database.reading() as connection:
            contents = list(connection.scalars(images.select().with_only_columns(images.c.content)))
        assert all(contents.count(content) == 2 for content in contents)
    finally:
        database.close()


def test_scores_are_those_of_the_model_that_serves(kept, recalibrated_run: Path) -> None:
    folder, rows = kept
    with serving(recalibrated_run, folder) as running, running.client() as client:
        found = {row["score"] for row in scored_again(client, len(rows))}
        scorer = open_model(recalibrated_run, device="cpu")
        want = [result.value for _, result in score(scorer, find_images([folder / "images"]))]
    assert sorted(found) == pytest.approx(sorted(want), abs=1e-4)


def test_a_round_counts_what_was_labelled_while_its_model_served(kept, recalibrated_run: Path) -> None:
    folder, rows = kept
    with serving(recalibrated_run, folder) as running, running.client() as client:
        found = scored_again(client, len(rows))
        free = next(study["id"] for study in found if not study["label"])
        known = next(study["id"] for study in found if study["label"] == "normal")
        for study, given in ((free, ["abnormal"]), (known, ["unsure", "normal"])):
            [image] = client.get(f"/api/studies/{study}").json()["results"]
            for one in given:
                label(client, image["id"], label=one)
        brought = client.get("/next").text
        assert "What the labels brought" in brought
        assert "No image was labelled since it began to serve" not in brought
    database = Database(folder / "worklist.db")
    try:
        last, first = rounds(database)
    finally:
        database.close()
    assert (first.normal + first.abnormal, first.auroc is None) == (6, False)  # its images, labelled since it began
    assert last.normal + last.abnormal == 2
    assert 0 <= first.share_right["low"] <= first.share_right["value"] <= first.share_right["high"] <= 1


def test_the_page_sees_a_rescoring_come_to_its_end(kept, recalibrated_run: Path, browser, tmp_path: Path) -> None:
    folder, rows = kept
    shutil.copytree(folder, tmp_path / "kept")
    with sqlite3.connect(tmp_path / "kept" / "worklist.db") as database:  # as before this model came
        database.execute("DELETE FROM pictures WHERE image IN (SELECT id FROM images WHERE model > 1)")
        database.execute("DELETE FROM images WHERE model > 1")
        database.execute("DELETE FROM studies WHERE model > 1")
    with serving(recalibrated_run, tmp_path / "kept") as running:
        page = browser.new_page()
        page.goto(running.address)
        page.wait_for_selector("text=This model has scored none of the images that are here")
        page.click("#again button")
        page.wait_for_function("n => document.querySelectorAll('a.open').length === n", arg=len(rows))
        page.close()


def test_an_image_stands_beside_its_mirror_image_and_train_normals(kept, recalibrated_run: Path) -> None:
    folder, rows = kept
    with serving(recalibrated_run, folder) as running, running.client() as client:
        shown = client.get(f"/images/{rows[0]['id']}/nearest").text
    assert "Train normal number" in shown
