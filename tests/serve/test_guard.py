"""Who may: nobody from elsewhere without a credential, no change from another page, no event of the audit changed."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from helpers.command import error_of, within
from helpers.data import texture
from helpers.service import COMMAND, Running, serving

TOKEN = "a token that is long enough for tests"
PASSWORD = "correct horse battery"


def add_user(folder: Path, name: str, role: str) -> None:
    command = [*COMMAND, "serve", "--data", str(folder), "--add-user", name, "--role", role]
    done = subprocess.run(command, input=f"{PASSWORD}\n", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def closed(openvino_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with two users and a token."""
    folder = tmp_path_factory.mktemp("closed") / "kept"
    add_user(folder, "ruth", "reader")
    add_user(folder, "ada", "admin")
    with serving(openvino_export, folder, AEFLOW_SERVE_TOKEN=TOKEN) as running:
        yield running


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD) -> httpx.Response:
    origin = {"origin": str(client.base_url).rstrip("/")}
    return client.post("/sign-in", data={"name": name, "password": password}, headers=origin)


def test_a_host_that_others_reach_needs_a_credential(openvino_export: Path, tmp_path: Path) -> None:
    line = error_of("serve", openvino_export, "--data", tmp_path / "kept", "--host", "0.0.0.0")
    assert line.startswith("--host: 0.0.0.0 is open to others")
    assert "--add-user" in line
    assert "TLS belongs in front" in line
    assert not (tmp_path / "kept").exists()


def test_a_start_that_is_refused_leaves_no_worklist(openvino_export: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{(port := taken.getsockname()[1])}"
        line = error_of("serve", openvino_export, "--data", tmp_path / "kept", "--port", port)
    assert line == f"{place}: Address already in use; name another --port or --host"
    assert "no such folder" in error_of("serve", tmp_path / "no", "--data", tmp_path / "kept", "--port", 0)
    assert not (tmp_path / "kept").exists()


def test_a_page_elsewhere_cannot_reach_it_by_a_name_that_leads_here(client: httpx.Client) -> None:
    assert client.get("/api/studies", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/api/studies").status_code == 200


def test_a_change_from_another_page_is_refused(client: httpx.Client) -> None:
    study = client.get("/api/studies").json()["studies"][0]["id"]
    [row] = client.get(f"/api/studies/{study}").json()["results"]
    place, body = f"/api/images/{row['id']}/label", {"label": "normal"}
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert client.post(place, json=body, headers=headers).status_code == 403
    assert client.post(place, json=body, headers={"origin": str(client.base_url).rstrip("/")}).status_code == 200


def test_a_page_elsewhere_may_lead_here_and_ask_for_nothing(client: httpx.Client) -> None:
    elsewhere = {"sec-fetch-site": "cross-site"}
    assert client.get("/trends", headers={**elsewhere, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/trends", headers={**elsewhere, "sec-fetch-mode": "navigate"}).status_code == 200


@pytest.mark.parametrize("given", ["../../worklist.db", "..%2f..%2fworklist.db", "/etc/passwd", "0" * 15 + "/"])
def test_an_identifier_is_no_path(client: httpx.Client, given: str) -> None:
    for place in ("/api/images/{}/pixels", "/api/images/{}/map.png", "/api/studies/{}", "/studies/{}", "/static/{}"):
        answer = client.get(place.format(given), follow_redirects=True)  # from a slash at the end
        assert answer.status_code in (404, 422)
        assert "root:" not in answer.text


def test_every_answer_has_the_headers_that_keep_a_page_to_itself(client: httpx.Client) -> None:
    for place in ("/", "/api/studies", "/static/review.js", "/nothing", "/next", "/sign-in"):
        headers = client.get(place).headers
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_without_a_credential_nothing_is_shown(closed: Running) -> None:
    with closed.client() as client:
        for place in ("/api/studies", "/metrics", "/openapi.json", "/api/images/0123456789abcdef/map.png"):
            assert client.get(place).status_code == 401
        answer = client.get("/?verdict=abnormal")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2F%3Fverdict%3Dabnormal")
        assert client.get("/health").status_code == 200
        assert client.get("/api/studies", headers={"authorization": f"Bearer {TOKEN}x"}).status_code == 401
        assert client.get("/api/studies", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_reader_signs_in_and_out(closed: Running) -> None:
    with closed.client() as client:
        assert sign_in(client, "ruth", "wrong").status_code == 401
        assert sign_in(client, "nobody").status_code == 401
        answer = sign_in(client, "ruth")
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert client.get("/").status_code == 200
        assert client.post("/recalibrate").status_code == 403  # no Origin
        origin = {"origin": closed.address}
        assert "Only an admin" in client.post("/recalibrate", headers=origin).text
        kept = client.cookies["aeflow-session"]
        client.post("/sign-out", headers=origin)
        assert client.get("/", cookies={"aeflow-session": kept}).status_code == 303


def test_guesses_are_slowed_down(closed: Running) -> None:
    with closed.client() as client:
        codes = [sign_in(client, "guessed", f"wrong {i}").status_code for i in range(9)]
    assert codes == [401] * 8 + [429]


def test_guesses_at_a_time_are_no_more_than_guesses_in_turn(closed: Running) -> None:
    def guess(number: int) -> int:
        with closed.client() as client:
            return sign_in(client, "guessed.by.many", f"wrong {number}").status_code

    with ThreadPoolExecutor(20) as threads:
        codes = Counter(threads.map(guess, range(20)))
    assert codes == {401: 8, 429: 12}


def test_a_large_sign_in_is_refused_before_it_is_read(closed: Running) -> None:
    with closed.client() as client:
        address = client.base_url
    begin = f"POST /sign-in HTTP/1.1\r\nhost: {address.host}\r\ncontent-type: application/x-www-form-urlencoded\r\n"
    chunk = b"10000\r\n%s\r\n" % (b"a" * 2**16)
    for length, body in ((f"content-length: {2**27}", b""), ("transfer-encoding: chunked", chunk + chunk)):
        with socket.create_connection((address.host, address.port), timeout=30) as connection:
            with suppress(OSError):  # it answers before all is sent, and closes
                connection.sendall(f"{begin}{length}\r\n\r\n".encode() + body)
            assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_sign_in_leads_nowhere_else(closed: Running) -> None:
    with closed.client() as client:
        origin = {"origin": closed.address}
        for there in ("//evil.example", "https://evil.example", "/\\evil.example"):
            form = {"name": "ada", "password": PASSWORD, "next": there}
            assert client.post("/sign-in", data=form, headers=origin).headers["location"] == "/"


def test_who_was_removed_is_signed_out(closed: Running) -> None:
    add_user(closed.folder, "tom", "reader")
    with closed.client() as client:
        sign_in(client, "tom")
        assert client.get("/").status_code == 200
        within("serve", "--data", closed.folder, "--remove-user", "tom")
        assert client.get("/").status_code == 303
        assert sign_in(client, "tom").status_code == 401
    assert "there is no user 'tom'" in error_of("serve", "--data", closed.folder, "--remove-user", "tom")


def test_passwords_sessions_and_tokens_are_kept_as_hashes_alone(closed: Running) -> None:
    with closed.client() as client:
        cookie = sign_in(client, "ada").cookies["aeflow-session"]
    with sqlite3.connect(closed.folder / "worklist.db") as database:
        kept = "\n".join(database.iterdump())
    assert "argon2id" in kept
    assert not any(secret in kept for secret in (PASSWORD, cookie, TOKEN))


def test_a_short_password_or_token_is_refused(tmp_path: Path, openvino_export: Path, monkeypatch) -> None:
    command = [*COMMAND, "serve", "--data", str(tmp_path), "--add-user", "ruth"]
    done = subprocess.run(command, input="short\n", capture_output=True, text=True)
    assert done.returncode == 2
    assert "too short" in done.stderr
    monkeypatch.setenv("AEFLOW_SERVE_TOKEN", "short")
    assert "too short for a token" in error_of("serve", openvino_export, "--data", tmp_path)


def test_the_audit_knows_who_did_what_and_notices_every_change(closed: Running, tmp_path: Path) -> None:
    import io

    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(texture(6000)).save(content, "png")
    with closed.client(headers={"origin": closed.address}) as client:
        sign_in(client, "ruth")
        [row] = client.post("/api/score", files={"files": ("a.png", content.getvalue())}).json()["results"]
        client.get(f"/studies/{row['study_id']}")
        client.post(f"/api/images/{row['id']}/label", json={"label": "normal"})
    file = closed.folder / "worklist.db"
    with sqlite3.connect(file) as database:
        done = database.execute("SELECT who, what FROM audit ORDER BY number").fetchall()
        assert {("ruth", "scored"), ("ruth", "saw"), ("ruth", "labelled"), ("ruth", "signed in")} <= set(done)
        for change in ("UPDATE audit SET who = 'x'", "DELETE FROM audit", "DELETE FROM labels"):
            with pytest.raises(sqlite3.IntegrityError, match="append only"):
                database.execute(change)
            database.rollback()
        copy = sqlite3.connect(tmp_path / "worklist.db")
        database.backup(copy)
    out, _ = within("serve", "--data", tmp_path, "--verify-audit")
    assert out.startswith(f"{len(done)} events, each as it was written\nhead: ")
    for trigger in ("update", "delete"):
        copy.execute(f"DROP TRIGGER audit_no_{trigger}")
    number = len(done) // 2
    copy.execute("UPDATE audit SET who = who || '!' WHERE number = ?", (number,))
    copy.commit()
    assert f"event {number} of" in error_of("serve", "--data", tmp_path, "--verify-audit")
    copy.execute("DELETE FROM audit WHERE number = ?", (number,))
    copy.commit()
    copy.close()
    assert f"event {number} is missing" in error_of("serve", "--data", tmp_path, "--verify-audit")


def test_a_second_service_in_one_folder_is_refused(service: Running, openvino_export: Path) -> None:
    assert "another process" in error_of("serve", openvino_export, "--data", service.folder)
