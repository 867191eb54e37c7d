"""HTTP sessions of a node: their credentials come from the environment alone, and go to no other host."""

from __future__ import annotations

import os
from collections.abc import Sequence

import requests


def web_session(names: Sequence[str]) -> requests.Session:
    """Return a session with the credentials that NAME_TOKEN, or NAME_USER and NAME_PASSWORD, hold of the first NAME."""
    session = requests.Session()
    session.trust_env = False  # no password of a .netrc, no proxy
    session.headers["Connection"] = "keep-alive"
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
