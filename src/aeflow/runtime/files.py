"""Files written as a whole or not at all, and digests of files and values."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def content(path: Path) -> str | None:
    """Return the SHA-256 of a file in hex; None if it cannot be opened, which its reader then reports."""
    try:
        if not path.is_file():  # a pipe would wait for ever, and a device may never end
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


# How text is written that UTF-8 cannot hold: bytes of a file's name that are none stand as escapes, as \udce9.
UNENCODABLE = "backslashreplace"


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all; see UNENCODABLE."""
    write_bytes(path, text.encode(errors=UNENCODABLE))


def encodable(text: str) -> str:
    """Return text as ``write_text`` writes it, for formats that write by themselves."""
    return text.encode(errors=UNENCODABLE).decode()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def digest(values: Any) -> str:
    """Return the SHA-256 of plain values, in hex."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
