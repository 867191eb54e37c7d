"""Objects of a store, by any URL that fsspec knows; S3 comes with the extra ``remote``, others with their own package.

Who may read them, and where the store is, says the environment, as each store's own tools read it (for S3
``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and so on): never the URL, which stands in tables.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from aeflow.archive.item import SCHEME, Item, scheme_of
from aeflow.archive.sources.fetched import Fetched, nameless
from aeflow.archive.sources.tables import is_table, listed
from aeflow.errors import DataError, SettingsError
from aeflow.imageio.errors import FileError, ImageLimitError
from aeflow.imageio.limits import LIMITS
from aeflow.runtime.extras import extra
from aeflow.runtime.files import PIECE_BYTES

SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "http", "https", "hdfs", "sftp", "smb")
TRIES = 5
FIRST_WAIT = 0.5  # seconds before the second try; twice as long before each further one, and up to half as long again
IN_ONE = 16 * 2**20  # bytes up to which an object is asked for in one request
# A store that is silent for so long is asked again.
OPTIONS = {"s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30}}}
VERSIONS = (
    "ETag",
    "etag",
    "LastModified",
    "last_modified",
    "mtime",
    "modified",
    "generation",
)  # the first that is there
NOT_THERE = (FileNotFoundError, PermissionError, IsADirectoryError)  # another try would find the same


def items(source: str) -> Iterator[Item]:
    """Yield the objects below a URL in sorted order, folder by folder, or the one object, or those that a table lists.

    A listing holds the objects of one folder in memory. DataError if there are none or the store cannot be asked.
    """
    check(source)
    try:
        system, root = _system(source)
        info = system.info(root)
        if info["type"] != "directory":
            if is_table(source):
                yield from _of_table(source)
            else:
                yield _item(source, info)
            return
        for folder, _, files in system.walk(root, detail=True):
            for name in sorted(files):
                if not name.startswith(".") and files[name].get("size") != 0:
                    path = f"{folder}/{name}".removeprefix(root).lstrip("/")
                    yield _item(f"{source.rstrip('/')}/{path}", files[name])
    except FileNotFoundError as error:
        raise DataError(source, "there is no such object", "check the URL") from error
    except PermissionError as error:
        raise DataError(source, "may not be read", "set the store's credentials in the environment") from error
    except (OSError, ValueError) as error:
        raise DataError(source, f"cannot be listed ({_reason(error)})", "check the URL, and repeat") from error


def check(url: str) -> None:
    """Raise DataError for a URL that holds credentials."""
    scheme, _, rest = url.partition(SCHEME)
    if "@" in rest.partition("/")[0] or "?" in rest:
        shown = f"{scheme}{SCHEME}..."
        raise DataError(shown, "credentials in a URL, which stands in tables", "give them in the environment")


def fetch(item: Item) -> Fetched:
    """Return an object as a file; FileError if it cannot be had, ImageLimitError if it is too long."""
    check(item.path)
    system, path = _system(item.path)
    error: Exception | None = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(1, 1.5))
        fetched, file = nameless()
        try:
            size = item.bytes if item.bytes is not None else int(system.info(path)["size"])
            if size > LIMITS.max_bytes:
                found = f"{size} bytes where the limit is {LIMITS.max_bytes}"
                raise ImageLimitError(item.name, found, "shrink the image or raise max_bytes")
            _copy(system, path, size, file, item.name)
            file.flush()
            return fetched
        except ImageLimitError:
            fetched.close()
            raise
        except NOT_THERE as gone:
            fetched.close()
            remedy = "check the URL and who may read it"
            raise FileError(item.name, f"cannot be fetched ({_reason(gone)})", remedy) from gone
        except Exception as failed:  # what stores' libraries raise has no base in common
            fetched.close()
            error = failed
    found = f"cannot be fetched in {TRIES} tries ({_reason(error)})"
    raise FileError(item.name, found, "score it with --since once the store answers") from error


def _copy(system: Any, path: str, size: int, file: Any, name: str) -> None:
    """Write an object to a file; ImageLimitError if it is longer than it was said to be, and too long."""
    if size <= IN_ONE:
        file.write(system.cat_file(path))
        return
    left = LIMITS.max_bytes
    with system.open(path, "rb", block_size=IN_ONE) as content:
        while piece := content.read(PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                found = f"more than {LIMITS.max_bytes} bytes, which is the limit"
                raise ImageLimitError(name, found, "shrink the image or raise max_bytes")
            file.write(piece)


def _of_table(source: str) -> Iterator[Item]:
    """Yield the objects that a table in a store lists; relative paths start beside it."""
    above = source.rpartition("/")[0]
    table = fetch(Item(source, source))
    try:
        yield from listed(table.path, lambda text: Item(text, f"{above}/{text}"), source)
    finally:
        table.close()


def _item(url: str, info: dict[str, Any]) -> Item:
    version = next((str(info[name]) for name in VERSIONS if info.get(name)), None)
    size = info.get("size")
    return Item(url, url, bytes=None if size is None else int(size), version=version)


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of fsspec's for a URL, and the path in it; SettingsError if its package is missing."""
    scheme = scheme_of(url)
    with extra("remote"):
        import fsspec
    try:
        found, path = fsspec.core.url_to_fs(url, **OPTIONS.get(scheme, {}), use_listings_cache=False)
    except ImportError as error:
        found_missing = f"its package is not installed ({error})"
        raise SettingsError(
            f"{scheme}{SCHEME}", found_missing, "pip install 'aeflow[remote]', or what it names"
        ) from error
    return found, path


def _reason(error: BaseException | None) -> str:
    """Return what went wrong, without what a library wrote about it, which may hold names and keys."""
    told = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {told}" if told else type(error).__name__
