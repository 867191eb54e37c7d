"""Pseudonyms: stable under one secret, useless without it, and the secret is made once."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import subprocess
import sys

import pytest

from aeflow.errors import SettingsError
from aeflow.privacy import SALT_BYTES, _secret, pseudonym


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.delenv("AEFLOW_SALT", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_it_is_hmac_sha256_of_the_key_under_the_salt(monkeypatch):
    monkeypatch.setenv("AEFLOW_SALT", "pepper")
    assert pseudonym("Jane Doe") == hmac.new(b"pepper", b"Jane Doe", hashlib.sha256).hexdigest()[:12]
    assert pseudonym("Jürgen") == hmac.new(b"pepper", "Jürgen".encode(), hashlib.sha256).hexdigest()[:12]
    assert len(pseudonym("\udcff")) == 12  # a byte of a file name that is not UTF-8


def test_another_salt_gives_other_pseudonyms(state, monkeypatch):
    keys = [f"person{i}" for i in range(1000)]
    own = {pseudonym(key) for key in keys}
    monkeypatch.setenv("AEFLOW_SALT", "pepper")
    given = {pseudonym(key) for key in keys}
    assert len(own) == len(given) == 1000
    assert not own & given


def test_the_secret_is_made_once_and_for_its_owner_alone(state):
    first = pseudonym("Jane Doe")
    salt = state / "aeflow" / "salt"
    assert len(salt.read_bytes()) == SALT_BYTES
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    assert stat.S_IMODE(salt.parent.stat().st_mode) == 0o700
    assert os.listdir(salt.parent) == ["salt"]
    assert first == hmac.new(salt.read_bytes(), b"Jane Doe", hashlib.sha256).hexdigest()[:12]
    assert ask(state) == first


def test_an_empty_variable_is_no_salt(state, monkeypatch):
    own = pseudonym("Jane Doe")
    monkeypatch.setenv("AEFLOW_SALT", "")
    assert pseudonym("Jane Doe") == own


@pytest.mark.parametrize("value", ["", "relative/path"])  # the XDG specification says to ignore a relative one
def test_without_xdg_it_lies_below_the_home_folder(tmp_path, monkeypatch, value):
    monkeypatch.delenv("AEFLOW_SALT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", value)
    monkeypatch.chdir(tmp_path)
    pseudonym("Jane Doe")
    assert (tmp_path / ".local/state/aeflow/salt").is_file()


ASK = "from aeflow.privacy import pseudonym; print(pseudonym('Jane Doe'))"


def start(state) -> subprocess.Popen[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    return subprocess.Popen([sys.executable, "-c", ASK], env=environment, stdout=subprocess.PIPE, text=True)


def ask(state) -> str:
    return start(state).communicate()[0].strip()


def test_processes_that_race_agree_on_one_secret(state):
    racers = [start(state) for _ in range(6)]
    assert len({racer.communicate()[0].strip() for racer in racers}) == 1
    assert os.listdir(state / "aeflow") == ["salt"]


def test_a_damaged_secret_is_an_error(state):
    (state / "aeflow").mkdir(parents=True)
    (state / "aeflow" / "salt").write_bytes(b"short")
    with pytest.raises(SettingsError) as caught:
        pseudonym("Jane Doe")
    expected = f"{state}/aeflow/salt: 5 bytes where a salt has 32; delete it to have a new one made; "
    assert str(caught.value).startswith(expected)


def test_without_a_place_for_it_the_secret_is_the_process_s_own_which_a_note_says(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("AEFLOW_SALT", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    first = pseudonym("Jane Doe")
    assert capsys.readouterr().err.endswith("set AEFLOW_SALT to a secret to keep them\n")
    assert pseudonym("Jane Doe") == first
    assert len(os.environ["AEFLOW_SALT"]) == 64  # for the processes that it starts
    monkeypatch.delenv("AEFLOW_SALT")
    _secret.cache_clear()
    assert pseudonym("Jane Doe") != first  # in another run


def test_a_secret_that_cannot_be_read_is_an_error(state):
    (state / "aeflow" / "salt").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"cannot be read .*; set AEFLOW_SALT to a secret"):
        pseudonym("Jane Doe")
