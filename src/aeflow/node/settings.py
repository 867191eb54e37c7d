"""Settings of a node: one small TOML file, and what the command line adds to it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork, ValidationError, model_validator

from aeflow.errors import SettingsError, in_our_words
from aeflow.imageio.limits import LIMITS
from aeflow.runtime.addresses import is_loopback

LOOPBACK = ("127.0.0.0/8", "::1/128")
PARTS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5}):(?P<aet>[^\\]+)")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
Kind = Literal["report", "overlay", "map"]


def _aet(title: str) -> str:
    """Return an AE title without its padding; ValueError if it is none (PS3.5, value representation AE)."""
    title = title.strip(" ")
    if not 0 < len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("an AE title has 1 to 16 characters of ASCII and no backslash")
    return title


def _address(address: str) -> str:
    """Return where results go; ValueError unless it is HOST:PORT:AET or an address of DICOMweb."""
    if address.startswith(("http://", "https://")):
        return _web_address(address)
    found = PARTS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 2**16:
        raise ValueError("write HOST:PORT:AET, or https://HOST/PATH for DICOMweb")
    _aet(found["aet"])
    return address


def _web_address(address: str) -> str:
    """Return an address of DICOMweb or an Orthanc; ValueError if it is none, has credentials, or is heard by others."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write https://HOST/PATH, up to what stands before /studies")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no credentials in an address; set them in the environment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("plain http leaves this machine; write https://")
    return address.rstrip("/")


Aet = Annotated[str, AfterValidator(_aet)]


class Part(BaseModel):
    """Base of the parts of the file: a name that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Peer(Part):
    """Known sender: an AE title, and the addresses that it may have."""

    aet: Aet
    addresses: tuple[IPvAnyNetwork, ...] = Field(LOOPBACK, min_length=1, validate_default=True)


class Destination(Part):
    """Place that results go to; its name chooses credentials in the environment and stands in rules."""

    name: str = Field(pattern=NAME.pattern)
    address: Annotated[str, AfterValidator(_address)]
    tls: bool = False  # DICOM over TLS; https always is

    @property
    def is_web(self) -> bool:
        """True for DICOMweb, False for C-STORE."""
        return self.address.startswith("http")

    @cached_property
    def host_port_aet(self) -> tuple[str, int, str]:
        """Host, port and AE title of a destination of C-STORE."""
        found = PARTS.fullmatch(self.address)
        assert found is not None, "checked before"
        return found["host"].strip("[]"), int(found["port"]), _aet(found["aet"])


class OrthancFeed(Part):
    """Orthanc whose stable studies are fetched; its credentials are in the environment."""

    address: Annotated[str, AfterValidator(_web_address)]


class Rule(Part):
    """What becomes of objects that fit: all that is named must, by any of the values; without values all fit."""

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    source: tuple[Aet, ...] = ()
    sop_class: tuple[str, ...] = ()  # UIDs or keywords
    action: Literal["score", "skip"] = "score"
    run: Path | None = None  # None: the node's
    send: tuple[Kind, ...] = ("report", "overlay")
    to: tuple[str, ...] | None = None  # names of destinations; None: all
    outside: Literal["withhold", "send"] = "withhold"  # results on images outside the intended input


class TlsFiles(Part):
    """Certificate and key of this node, and the authorities by which it knows others; PEM files."""

    certificate: Path
    key: Path
    authorities: Path


class NodeLimits(Part):
    """Limits beyond which a peer is refused."""

    associations: int = Field(default=16, ge=1, le=1000)  # at a time
    pdu_bytes: int = Field(default=2**18, ge=2**12, le=2**24)  # of one PDU; larger ones are faster, up to about this
    object_bytes: int = Field(default=LIMITS.max_bytes, ge=2**10)
    memory_bytes: int = Field(default=2**30, ge=2**20)  # of all objects that are under way
    free_bytes: int = Field(default=2**30, ge=0)  # of the disk, which are never used
    objects: int = Field(default=20_000, ge=1)  # of one study
    idle_seconds: float = Field(default=60.0, gt=0)


class NodeSettings(Part):
    """All that a node is told."""

    aet: Aet = "AEFLOW"
    host: str = "127.0.0.1"
    port: int = Field(11112, ge=0, lt=2**16)
    quiet_seconds: float = Field(30.0, ge=0, le=86400)  # without an object until a study counts as complete
    give_up_hours: float = Field(72.0, gt=0)  # until a delivery that fails becomes a dead letter
    keep_days: float = Field(7.0, gt=0)  # until images of finished studies are deleted
    peer: tuple[Peer, ...] = ()
    destination: tuple[Destination, ...] = ()
    orthanc: OrthancFeed | None = None
    rule: tuple[Rule, ...] = ()
    limits: NodeLimits = NodeLimits()
    tls: TlsFiles | None = None

    @model_validator(mode="after")
    def _consistent(self) -> NodeSettings:
        names = [one.name for one in self.destination]
        if len(set(names)) < len(names):
            raise ValueError("two destinations have the same name")
        for rule in self.rule:
            if missing := set(rule.to or ()) - set(names):
                raise ValueError(f"a rule sends to {sorted(missing)[0]!r}, and no destination is named so")
        if any(one.tls for one in self.destination) and self.tls is None:
            raise ValueError("a destination has tls, and no [tls] names a certificate")
        if not self.peer and not is_loopback(self.host):
            raise ValueError("a node that others reach needs to know them: name each as a [[peer]]")
        return self


def node_settings(file: Path | None, *, send_to: Sequence[str] | None = None, **changes: Any) -> NodeSettings:
    """Read a file of settings, if there is one, with changes that are not None; raises SettingsError.

    Paths in the file start at its folder. ``send_to`` are addresses of more destinations.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            found = f"cannot be read as TOML ({error})"
            raise SettingsError(file, found, "see docs/hospital.md for an example") from error
        _from_folder(values, file.parent)
    values |= {name: value for name, value in changes.items() if value is not None}
    for number, address in enumerate(send_to or (), 1):
        more = {"name": f"send_to_{number}", "address": address}
        values["destination"] = [*values.get("destination", ()), more]
    if not values.get("destination"):
        remedy = "name one with --send-to, or as a [[destination]]"
        raise SettingsError("--send-to", "results have no place to go", remedy)
    try:
        return NodeSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or str(file or "settings")
        raise SettingsError(where, in_our_words(first["msg"]), "see docs/hospital.md") from error


def _from_folder(values: dict[str, Any], folder: Path) -> None:
    """Let relative paths start at a folder; what has another type than it should is found later."""
    rules, tls = values.get("rule"), values.get("tls")
    for part in [*(rules if isinstance(rules, list) else []), tls]:
        if isinstance(part, dict):
            for name in ("run", "certificate", "key", "authorities"):
                if isinstance(part.get(name), str):
                    part[name] = folder / part[name]
