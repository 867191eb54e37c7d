"""Addresses of hosts, as people and sockets write them; which of them are this machine."""

from __future__ import annotations

import ipaddress


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as, also in brackets, with a zone or IPv4 mapped; None for a name."""
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_loopback(host: str) -> bool:
    """Return if a host is this machine: asked before anything is sent unencrypted, or heard without a credential."""
    address = address_of(host)
    return host.lower() == "localhost" if address is None else address.is_loopback
