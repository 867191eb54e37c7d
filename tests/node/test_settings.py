"""What a node is told: every mistake is one line with its place, and nothing opens more than was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from aeflow.errors import SettingsError
from aeflow.node.settings import node_settings

DESTINATION = '[[destination]]\nname = "pacs"\naddress = "pacs:104:PACS"\n'
WRONG = {
    "unknown name": ('colour = "red"', "colour"),
    "no title": ('aet = "SEVENTEEN LETTERS"', "aet"),
    "others without peers": ('host = "0.0.0.0"', "peer"),
    "unknown destination": ('[[rule]]\nto = ["other"]', "other"),
    "unknown result": ('[[rule]]\nsend = ["diagnosis"]', "rule"),
    "TLS without a certificate": ('[[destination]]\nname = "b"\naddress = "b:104:B"\ntls = true', r"\[tls\]"),
    "plain http elsewhere": ('[[destination]]\nname = "b"\naddress = "http://pacs/dicom-web"', "https"),
    "a password": ('[[destination]]\nname = "b"\naddress = "https://me:secret@pacs/dicom-web"', "environment"),
    "no port": ('[[destination]]\nname = "b"\naddress = "pacs:PACS"', "HOST:PORT:AET"),
    "a name twice": (DESTINATION, "same name"),
    "no TOML": ("aet = ", "TOML"),
    "no network": ('[[peer]]\naet = "A"\naddresses = ["everywhere"]', "peer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_that_names_its_place_and_shows_no_password(tmp_path: Path, name: str) -> None:
    text, named = WRONG[name]
    top, tables = (text, "") if not text.startswith("[") else ("", text)
    (tmp_path / "node.toml").write_text(f"{top}\n{DESTINATION}{tables}\n")
    with pytest.raises(SettingsError, match=named) as error:
        node_settings(tmp_path / "node.toml")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_results_need_a_place_to_go() -> None:
    with pytest.raises(SettingsError, match="--send-to"):
        node_settings(None)


def test_the_command_line_adds_to_the_file_and_paths_start_there(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(f'port = 104\n{DESTINATION}[[rule]]\nrun = "runs/chest"\n')
    found = node_settings(tmp_path / "node.toml", port=11113, aet=None, send_to=["[::1]:104:OTHER"])
    assert (found.port, found.aet, found.host) == (11113, "AEFLOW", "127.0.0.1")
    assert [one.host_port_aet for one in found.destination] == [("pacs", 104, "PACS"), ("::1", 104, "OTHER")]
    assert found.rule[0].run == tmp_path / "runs/chest"
