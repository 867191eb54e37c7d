"""Objects of a store by their URL: S3, Google's and Azure's by Arrow itself, all others by fsspec.

Who may read them, and where the store is, says the environment, as each store's own tools read it (for S3
``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and so on): never the URL, which stands in tables.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aeflow.archive.item import SCHEME, Item, scheme_of
from aeflow.archive.sources.fetched import Fetched
from aeflow.archive.sources.tables import is_table, listed
from aeflow.archive.sources.tries import FinalError, check_length, copied, reason
from aeflow.errors import DataError, SettingsError
from aeflow.runtime.extras import extra

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

ARROW = ("s3", "gs", "abfs", "abfss")  # schemes that need nothing beside Arrow
FSSPEC = ("file", "http", "https", "hdfs", "sftp", "smb", "github")
SCHEMES = (*ARROW, *FSSPEC)
CONNECT_SECONDS, SILENT_SECONDS = 10.0, 30.0  # after which S3 is asked again
PIECE = 8 * 2**20  # bytes that are asked for in one request
NOT_THERE = (FileNotFoundError, PermissionError, IsADirectoryError)  # another try would find the same


def items(source: str) -> Iterator[Item]:
    """Yield the objects below a URL in sorted order, folder by folder, or the one object, or those that a table lists.

    A listing holds the objects of one folder in memory. DataError if there are none or the store cannot be asked.
    """
    _check(source)
    system, root = _place(source)
    try:
        [info] = system.get_file_info([root])
        if is_table(source) and info.is_file:
            yield from _of_table(source)
        elif info.is_file:
            yield _item(source, info)
        else:
            yield from _below(system, root, source.rstrip("/"))
    except FileNotFoundError as error:
        raise DataError(source, "there is no such object", "check the URL") from error
    except (OSError, ValueError) as error:
        remedy = "check the URL, and the store's credentials in the environment; or repeat"
        raise DataError(source, f"cannot be listed ({reason(error)})", remedy) from error


def fetch(item: Item) -> Fetched:
    """Return an object as a file; FileError if it cannot be had, ImageLimitError if it is too long."""
    _check(item.path)
    system, path = _place(item.path)
    return copied(lambda: _pieces(system, path, item.name), item.name)


def _check(url: str) -> None:
    """Raise DataError for a URL that holds credentials."""
    scheme, _, rest = url.partition(SCHEME)
    if "@" in rest.partition("/")[0] or "?" in rest:
        found = "a URL with credentials, and it would stand in tables"
        raise DataError(f"{scheme}{SCHEME}...", found, "give them in the environment")


def _below(system: FileSystem, folder: str, url: str) -> Iterator[Item]:
    """Yield the objects of a folder and the folders in it, sorted as files are."""
    from pyarrow.fs import FileSelector, FileType

    for info in sorted(system.get_file_info(FileSelector(folder)), key=lambda info: str(info.base_name)):
        if info.base_name.startswith("."):
            continue
        if info.type == FileType.Directory:
            yield from _below(system, info.path, f"{url}/{info.base_name}")
        elif info.size:  # an empty one marks a folder
            yield _item(f"{url}/{info.base_name}", info)


def _pieces(system: FileSystem, path: str, name: str) -> Iterator[bytes]:
    """Yield the content of an object; ImageLimitError if it says that it is too long, FinalError if it is not there."""
    try:
        with system.open_input_file(path) as content:
            check_length(content.size(), name)
            while piece := content.read(PIECE):
                yield piece
    except NOT_THERE as gone:
        raise FinalError(reason(gone)) from gone


def _of_table(source: str) -> Iterator[Item]:
    """Yield the objects that a table in a store lists; relative paths start beside it."""
    above = source.rpartition("/")[0]
    table = fetch(Item(source, source))
    try:
        yield from listed(table.path, lambda text: Item(text, f"{above}/{text}"), source)
    finally:
        table.close()


def _item(url: str, info: FileInfo) -> Item:
    return Item(url, url, bytes=info.size, version=None if info.mtime_ns is None else str(info.mtime_ns))


def _place(url: str) -> tuple[FileSystem, str]:
    """Return the file system of Arrow's for a URL, and the path in it."""
    scheme, _, path = url.partition(SCHEME)
    system = _system(scheme_of(url))
    return system, url if scheme in ("http", "https") else path.rstrip("/")


@functools.cache
def _system(scheme: str) -> FileSystem:
    """Return the file system of a scheme; SettingsError if its package is missing."""
    with extra("parquet"):
        from pyarrow import fs
    try:
        match scheme:
            case "s3":
                # Few tries of its own: ours are further apart, and a refusal need not take minutes.
                tries = fs.AwsStandardS3RetryStrategy(max_attempts=2)
                named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
                return fs.S3FileSystem(
                    endpoint_override=named,
                    retry_strategy=tries,
                    connect_timeout=CONNECT_SECONDS,
                    request_timeout=SILENT_SECONDS,
                )
            case "gs":
                return fs.GcsFileSystem()
            case "abfs" | "abfss":
                return fs.AzureFileSystem(os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", ""))
        with extra("remote"):
            import fsspec
        system: Any = fsspec.filesystem(scheme, use_listings_cache=False)
        return fs.PyFileSystem(fs.FSSpecHandler(system))
    except (ImportError, OSError) as error:
        found = f"cannot be used here ({reason(error)})"
        remedy = "pip install 'aeflow[remote]' and the package that fsspec names for it"
        raise SettingsError(f"{scheme}{SCHEME}", found, remedy) from error
