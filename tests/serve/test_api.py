"""What a program gets: the scores of `aeflow score`, the worklist in order, labels once, and reasons for refusals."""

from __future__ import annotations

import io
import json
import resource
import socket
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from aeflow.serve.server import open_socket
from aeflow.serve.service import Options
from helpers.command import within
from helpers.data import texture
from helpers.service import Running, send, serving


def new_image(seed: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(texture(seed)).save(content, "png")
    return content.getvalue()


def put(client: httpx.Client, content: bytes, name: str = "image.png") -> httpx.Response:
    return client.post("/api/score", files={"files": (name, content)})


def test_scores_are_those_of_the_command(client: httpx.Client, openvino_export: Path, data: Path) -> None:
    images = sorted((data / "test" / "abnormal").iterdir())[:4]
    lines = within("score", openvino_export, *images, "--json")[0].splitlines()
    rows = send(client, *images).json()["results"]
    for line, row in zip(map(json.loads, lines), rows, strict=True):
        for name in ("path", "patient", "map"):  # pseudonyms, and where the map is
            line.pop(name)
        assert line == {name: row[name] for name in line}


def test_a_file_sent_again_is_the_same_image(client: httpx.Client, service: Running) -> None:
    content = new_image(4000)
    first, again = put(client, content, "a.png").json(), put(client, content, "other name.png").json()
    assert [row.pop("sent_before", False) for answer in (first, again) for row in answer["results"]] == [False, True]
    assert first == again
    with sqlite3.connect(service.folder / "worklist.db") as database:
        found = database.execute("SELECT count(*) FROM images WHERE id = ?", (first["results"][0]["id"],))
        assert found.fetchone() == (1,)


def test_the_worklist_goes_from_the_most_abnormal_down_page_by_page(client: httpx.Client) -> None:
    seen, after = [], ""
    while after is not None:
        page = client.get("/api/studies", params={"limit": 5, "after": after}).json()
        seen += page["studies"]
        after = page["next"]
    keys = [(study["p_value"], -study["score"], study["id"]) for study in seen]
    assert len(seen) >= 24
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    whole = client.get("/api/studies", params={"limit": 500}).json()["studies"]
    assert whole == seen


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        ({"verdict": "abnormal"}, lambda study: study["verdict"] == "abnormal"),
        ({"outside": "yes"}, lambda study: study["outside"]),
        ({"label": "none"}, lambda study: study["label"] is None),
        ({"source": "normal"}, lambda study: study["source"] == "normal"),
        ({"since": "2020-01-01", "until": "2999-12-31"}, lambda study: True),
        ({"until": "2020-01-01"}, lambda study: False),
    ],
)
def test_filters_leave_just_what_they_say(client: httpx.Client, asked: dict[str, str], holds) -> None:
    every = client.get("/api/studies", params={"limit": 500}).json()["studies"]
    shown = client.get("/api/studies", params={"limit": 500, **asked}).json()["studies"]
    assert shown == [study for study in every if holds(study)]


def test_what_cannot_be_read_is_refused_with_its_reason(client: httpx.Client) -> None:
    answer = put(client, b"no image at all, but a text", "Jane Doe.png")
    assert answer.status_code == 422
    [row] = answer.json()["results"]
    assert "not an image" in row["error"]
    assert "Jane" not in answer.text
    assert client.post("/api/score", files={"others": ("a", b"x")}).status_code == 422
    assert client.post("/api/score", content=b"x").status_code in (400, 422)
    both = client.post("/api/score", files=[("files", ("a", b"x" * 50)), ("files", ("b", new_image(4001)))])
    assert both.status_code == 200
    assert [row.get("error") is None for row in both.json()["results"]] == [False, True]


def test_what_is_too_large_is_refused_before_it_is_read(client: httpx.Client, service: Running) -> None:
    address = client.base_url
    begin = f"POST /api/score HTTP/1.1\r\nhost: {address.host}\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    part = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\n'
    for length, body in (
        (f"content-length: {2**40}", b""),
        (
            "transfer-encoding: chunked",
            b"%x\r\n%s\r\n" % (len(part), part) + b"%x\r\n%s\r\n" % (2**20, bytes(2**20)) * 12,
        ),
    ):
        with socket.create_connection((address.host, address.port), timeout=30) as connection:
            with suppress(OSError):  # it answers before all is sent, and closes
                connection.sendall(f"{begin}{length}\r\n\r\n".encode() + body)
            assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert client.get("/health").status_code == 200


def test_a_map_is_on_the_models_scale(client: httpx.Client, openvino_export: Path, data: Path) -> None:
    import aeflow

    image = sorted((data / "test" / "abnormal").iterdir())[0]
    [row] = send(client, image).json()["results"]
    picture = Image.open(io.BytesIO(client.get(row["map"]).content))
    assert picture.mode == "P"
    score = aeflow.load(openvino_export).score(image)
    low, high = score.map_limits["anomaly"]
    assert np.array_equal(np.asarray(picture), np.rint(255 * np.clip((score.map - low) / (high - low), 0, 1)))


def test_pixels_are_those_of_the_file(client: httpx.Client) -> None:
    deep = (np.arange(80 * 64, dtype=np.uint16).reshape(80, 64) * 11) % 65535
    content = io.BytesIO()
    Image.fromarray(deep).save(content, "png")
    [row] = put(client, content.getvalue()).json()["results"]
    answer = client.get(f"/api/images/{row['id']}/pixels")
    assert (answer.headers["x-height"], answer.headers["x-width"]) == ("80", "64")
    assert np.array_equal(np.frombuffer(answer.content, "<u2").reshape(80, 64), deep)


def test_a_label_is_kept_once_and_the_last_of_a_reader_counts(client: httpx.Client, service: Running) -> None:
    [row] = put(client, new_image(4002)).json()["results"]
    place = f"/api/images/{row['id']}/label"
    abnormal = {"label": "abnormal", "kind": "nodule", "regions": [[0.1, 0.2, 0.5, 0.6]]}
    first, again = client.post(place, json=abnormal).json(), client.post(place, json=abnormal).json()
    assert first == again
    assert first["regions"] == abnormal["regions"]
    assert client.get(f"/api/studies/{row['study_id']}").json()["label"] == "abnormal"
    client.post(place, json={"label": "normal"})
    assert client.get(f"/api/studies/{row['study_id']}").json()["label"] == "normal"
    with sqlite3.connect(service.folder / "worklist.db") as database:
        assert database.execute("SELECT count(*) FROM labels WHERE image = ?", (row["id"],)).fetchone() == (2,)


def test_a_label_replaces_none_that_its_sender_has_not_seen(client: httpx.Client) -> None:
    [row] = put(client, new_image(4010)).json()["results"]
    place = f"/api/images/{row['id']}/label"
    abnormal = {"label": "abnormal", "kind": "nodule", "regions": [[0.1, 0.2, 0.5, 0.6]]}
    first = client.post(place, json={**abnormal, "follows": 0}).json()
    assert client.post(place, json={**abnormal, "follows": 0}).json() == first  # sent again
    stale = client.post(place, json={"label": "normal", "follows": 0})
    assert (stale.status_code, stale.json()["now"]) == (409, first)
    assert client.get(f"/api/studies/{row['study_id']}").json()["label"] == "abnormal"
    assert client.post(place, json={"label": "none", "follows": first["id"]}).status_code == 200
    gone = client.post(place, json={"label": "normal", "follows": first["id"]})
    assert (gone.status_code, gone.json()["now"]) == (409, None)
    assert client.post(place, json={"label": "normal", "follows": 0}).status_code == 200
    assert client.post(place, json={"label": "unsure"}).status_code == 200  # a program may leave it out


@pytest.mark.parametrize(
    "body",
    [
        {"label": "ill"},
        {"label": "normal", "kind": "nodule"},
        {"label": "abnormal", "regions": [[0.5, 0.5, 0.4, 0.6]]},
        {"label": "abnormal", "regions": [[0.0, 0.0, 2.0, 0.6]]},
        {"label": "abnormal", "more": 1},
    ],
)
def test_a_label_that_says_nothing_plain_is_refused(client: httpx.Client, body: dict[str, object]) -> None:
    study = client.get("/api/studies").json()["studies"][0]["id"]
    [row] = client.get(f"/api/studies/{study}").json()["results"]
    assert client.post(f"/api/images/{row['id']}/label", json=body).status_code == 422


def test_a_volume_is_one_study_of_its_slices(client: httpx.Client, tmp_path: Path) -> None:
    import nibabel

    voxels = np.stack([texture(5000 + i) for i in range(4)], axis=-1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "volume.nii.gz")
    rows = send(client, tmp_path / "volume.nii.gz").json()["results"]
    assert [row["slice"] for row in rows] == [1, 2, 3, 4]
    [study] = {row["study_id"] for row in rows}
    found = client.get(f"/api/studies/{study}").json()
    assert found["images"] == 4
    assert [row["slice"] for row in found["results"]] == [1, 2, 3, 4]
    from aeflow.scoring.studies import simes

    assert found["p_value"] == simes([row["p_value"] for row in rows])
    assert client.get(f"/api/images/{rows[2]['id']}/pixels").status_code == 200


def test_measures_count_what_was_done(client: httpx.Client) -> None:
    put(client, new_image(4003))
    text = client.get("/metrics").text
    assert 'aeflow_images_total{result="scored"}' in text
    assert "aeflow_healthy 1" in text
    assert 'route="/api/score"' in text


def test_nobody_is_named_in_what_is_kept_but_in_the_images(client: httpx.Client, service: Running) -> None:
    put(client, new_image(4004), "CANARY^JANE.png")
    assert put(client, b"broken", "CANARY^JANE.dcm").status_code == 422
    for path in (*service.folder.rglob("worklist.db*"),):
        assert b"CANARY" not in path.read_bytes()
    assert not any("CANARY" in str(path) for path in service.folder.rglob("*"))
    assert "CANARY" not in client.get("/").text + client.get("/metrics").text + "".join(service.said)


def test_a_sender_who_goes_away_is_no_error_of_the_service(client: httpx.Client, service: Running) -> None:
    begin = "POST /api/score HTTP/1.1\r\nhost: {}\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
        connection.sendall(f"{begin.format(client.base_url.host)}content-length: 5000\r\n\r\n--x\r\n".encode())
        time.sleep(0.5)
    time.sleep(0.5)
    assert client.get("/health").status_code == 200
    assert not [line for line in service.said if "Traceback" in line or "ClientDisconnect" in line]


def test_a_second_service_in_one_folder_is_told_to_stop_the_first(service: Running, openvino_export: Path) -> None:
    with (
        pytest.raises(AssertionError, match="a service runs there: stop it first"),
        serving(openvino_export, service.folder),
    ):
        pass


def test_an_export_is_not_recalibrated_and_says_so(client: httpx.Client) -> None:
    answer = client.post("/recalibrate")
    assert answer.status_code == 422
    assert "serve the run itself" in answer.text


def test_a_full_disk_refuses_with_the_reason_and_what_was_answered_stays(
    client: httpx.Client, service: Running
) -> None:
    [row] = put(client, new_image(4005)).json()["results"]
    place = f"/api/images/{row['id']}/label"
    most = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (200, most[1]))
    try:
        refused = [put(client, new_image(4006)), client.post(place, json={"label": "normal"})]
    finally:
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, most)
    assert [answer.status_code for answer in refused] == [503, 503]
    assert all("free some space" in answer.json()["detail"] for answer in refused)
    assert not [line for line in service.said if "Traceback" in line or "INSERT" in line]
    assert client.get(f"/api/studies/{row['study_id']}").json()["label"] is None
    assert client.post(place, json={"label": "normal"}).status_code == 200
    assert put(client, new_image(4006)).status_code == 200


def test_answers_are_not_held_back() -> None:
    """Nagle's algorithm waits 40 ms for the client; asyncio turns it off for sockets whose protocol is TCP."""
    with open_socket(Options(port=0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP
