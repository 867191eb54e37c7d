"""Sessions with servers of DICOMweb and Orthancs: credentials of the environment alone, for no host but their own."""

from __future__ import annotations

import os
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
