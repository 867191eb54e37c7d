"""Some files as one: a plain zip of them, nothing compressed, that ends in the SHA-256 of all before it.

The checksum is the archive's comment, so any program for zip archives lists and unpacks it. Nothing is ever unpacked to
a disk here: the files are read into memory, under names that the reader knows beforehand.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO

from aeflow.runtime.files import PIECE_BYTES, beginning, opened

MAX_BYTES = zipfile.ZIP64_LIMIT  # a larger archive needs another format, whose sizes nothing bounds
SEAL = 64  # bytes of the checksum, in hex
END = 22  # bytes of the archive's end before its comment
MAX_DIRECTORY = 2**16  # bytes; a handful of files takes some hundred
NAME_AT = 30  # where an archive has the name of its first file


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return files by name as the content of one, the same bytes whenever and wherever; the first is its mark."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        archive.comment = bytes(SEAL)
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980, as the format begins
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)
    content = memory.getvalue()[:-SEAL]
    return content + hashlib.sha256(content).hexdigest().encode()


def begins_with(path: Path, name: str) -> bool:
    """Return if a file is an archive whose first file has this name."""
    start = beginning(path)
    return start.startswith(b"PK\x03\x04") and start[NAME_AT : NAME_AT + len(name)] == name.encode()


def unpacked(path: Path, known: Collection[str]) -> dict[str, bytes]:
    """Return the files by name; raises ValueError for a damaged archive, or one that ``packed`` would not make.

    ``known``: the names that it may hold. OSError if it cannot be read.
    """
    with opened(path) as (file, status):
        if not END + SEAL <= status.st_size <= MAX_BYTES + SEAL:
            raise ValueError(f"{status.st_size:,} bytes where {END + SEAL} to {MAX_BYTES + SEAL:,} are read")
        _check_seal(file, status.st_size - SEAL)
        _check_end(file)
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                names = [entry.filename for entry in entries]
                if len(names) != len(set(names)) or not {*names} <= {*known}:
                    raise ValueError("holds other files")
                if any(_is_odd(entry) for entry in entries) or sum(e.file_size for e in entries) > status.st_size:
                    raise ValueError("holds files that are compressed, encrypted or larger than it")
                return {entry.filename: archive.read(entry) for entry in entries}
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError, struct.error) as error:
            raise ValueError(f"no whole archive ({type(error).__name__})") from error


def _check_seal(file: BinaryIO, left: int) -> None:
    """Raise ValueError unless the first bytes have the checksum that follows them, with which the file ends."""
    digest = hashlib.sha256()
    while left and (piece := file.read(min(PIECE_BYTES, left))):
        digest.update(piece)
        left -= len(piece)
    if left or file.read() != digest.hexdigest().encode():
        raise ValueError("cut short or damaged (checksum differs)")


def _check_end(file: BinaryIO) -> None:
    """Raise ValueError unless an archive ends with a short directory of the plain format."""
    file.seek(-END - SEAL, io.SEEK_END)
    mark, _, _, _, _, directory, _, comment = struct.unpack("<4s4H2LH", file.read(END))
    if mark != b"PK\x05\x06" or directory > MAX_DIRECTORY or comment != SEAL:
        raise ValueError("no archive of this kind")
    file.seek(-END - SEAL - 20, io.SEEK_END)
    if file.read(4) == b"PK\x06\x07":
        raise ValueError("an archive of the format for giant ones")


def _is_odd(entry: zipfile.ZipInfo) -> bool:
    """Return if a file in an archive is not stored as it is."""
    return bool(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits or entry.file_size != entry.compress_size)
