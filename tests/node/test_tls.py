"""DICOM over TLS: both sides show a certificate; whoever has none, or another's, gets no association."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from aeflow.errors import SettingsError
from aeflow.node.settings import Destination, NodeSettings
from aeflow.node.tls import server_context
from helpers.dicom_peers import answer, associate_request, image, listening
from helpers.orthanc import needed


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a certificate for this machine that it signed; a second authority that nobody knows."""
    needed("openssl")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    for name in ("ca", "stranger"):
        subject = ("-subj", f"/CN={name}", "-days", "2", "-nodes")
        openssl(
            folder, "req", "-x509", "-newkey", "rsa:2048", "-keyout", f"{name}.key", "-out", f"{name}.crt", *subject
        )
    for name, by in (("node", "ca"), ("other", "stranger")):
        openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}")  # fmt: skip
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.crt", "-CAkey", f"{by}.key",
                "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.crt")  # fmt: skip
    return folder


def files(folder: Path, name: str = "node", authority: str = "ca") -> dict[str, Path]:
    return {
        "certificate": folder / f"{name}.crt",
        "key": folder / f"{name}.key",
        "authorities": folder / f"{authority}.crt",
    }


@pytest.mark.parametrize(("name", "accepted"), [("node", True), ("other", False), (None, False)])
def test_dcmtk_is_let_in_with_a_certificate_of_the_authority_alone(
    tmp_path: Path, certificates: Path, name: str | None, accepted: bool
) -> None:
    needed("storescu")
    file = image(tmp_path)
    shown = ["+tla"] if name is None else ["+tls", f"{certificates}/{name}.key", f"{certificates}/{name}.crt"]
    command = ["storescu", *shown, "+cf", f"{certificates}/ca.crt", "-aec", "AEFLOW", "127.0.0.1"]
    with listening(tmp_path / "store", tls=files(certificates)) as node:
        done = subprocess.run([*command, str(node.port), str(file)], capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0) is accepted, done.stderr
        assert len(node.queue.all("SELECT * FROM objects")) == int(accepted)


def test_a_peer_that_never_shakes_hands_keeps_nobody_waiting(tmp_path: Path, certificates: Path) -> None:
    needed("echoscu")
    with listening(tmp_path, tls=files(certificates)) as node:
        silent = [socket.create_connection(("127.0.0.1", node.port), 5) for _ in range(5)]
        assert answer(node.port, associate_request())[:1] not in (b"\x02", b"\x03")  # plain DICOM is no TLS
        echo = ["echoscu", "+tls", f"{certificates}/node.key", f"{certificates}/node.crt"]
        echo += ["+cf", f"{certificates}/ca.crt", "-aec", "AEFLOW", "127.0.0.1", str(node.port)]
        subprocess.run(echo, check=True, timeout=4)
        for one in silent:
            one.close()


@pytest.mark.parametrize(("authority", "reached"), [("ca", True), ("stranger", False)])
def test_results_go_only_to_a_host_that_its_certificate_names(
    tmp_path: Path, certificates: Path, authority: str, reached: bool
) -> None:
    from pydicom import dcmread

    from aeflow.node.send import PassingError, StoreSender

    source = image(tmp_path)
    with listening(tmp_path / "store", tls=files(certificates)) as node:
        to = Destination(name="pacs", address=f"127.0.0.1:{node.port}:AEFLOW", tls=True)
        settings = NodeSettings(tls=files(certificates, authority=authority), destination=(to,))
        sender = StoreSender(settings, to)
        if reached:
            with sender.session([dcmread(source).SOPClassUID]) as send:
                send(dcmread(source))
            assert node.came == 1
        else:
            with pytest.raises(PassingError), sender.session([dcmread(source).SOPClassUID]):
                pass


def test_files_that_do_not_belong_together_are_named(certificates: Path) -> None:
    wrong = files(certificates) | {"key": certificates / "other.key"}
    with pytest.raises(SettingsError, match=r"node\.crt: no certificate with its key"):
        server_context(NodeSettings(tls=wrong).tls)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"nowhere\.crt: no certificates of authorities"):
        server_context(NodeSettings(tls=files(certificates, authority="nowhere")).tls)  # type: ignore[arg-type]
