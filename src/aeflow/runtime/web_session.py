"""Sessions with servers of DICOMweb and Orthancs: credentials of the environment alone, for no host but their own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

CREDENTIALS = "AEFLOW_DICOMWEB"  # so names in the environment begin


def web_session(names: Iterable[str]) -> requests.Session:
    """Return a session with the credentials of the first variables that are set: ``NAME_TOKEN``, ``NAME_USER``.

    Beside a user stands ``NAME_PASSWORD``. ``REQUESTS_CA_BUNDLE`` names the authorities of https.
    """
    import requests

    session = requests.Session()
    session.trust_env = False  # no password of a .netrc, no proxy
    names = list(names)
    token, user, password = (
        next((found for name in names if (found := os.environ.get(f"{name}_{part}"))), None)
        for part in ("TOKEN", "USER", "PASSWORD")
    )
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif user:
        session.auth = (user, password or "")
    if authorities := os.environ.get("REQUESTS_CA_BUNDLE"):
        session.verify = authorities
    return session


def is_loopback(host: str) -> bool:
    """Return if a host is this machine, by its name or address."""
    return host in ("localhost", "::1", "[::1]") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
