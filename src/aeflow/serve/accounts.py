"""Who may: users with a role and a password, sessions, and the token of programs.

Passwords are kept as argon2id hashes, sessions and the token are compared by their SHA-256 in constant time. A wrong
name costs what a wrong password does, and guesses are slowed down.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import delete, func, insert, select

from aeflow.errors import SettingsError
from aeflow.serve import audit
from aeflow.serve.database import Database
from aeflow.serve.tables import now, sessions, users

TOKEN = "AEFLOW_SERVE_TOKEN"  # variable of the environment
TOKEN_NAME = "token"  # who comes with it
LEAST_PASSWORD, LEAST_TOKEN = 12, 24  # characters
SESSION_HOURS = 12
READER, ADMIN = "reader", "admin"
ROLES = (READER, ADMIN)
NAME = re.compile(r"[a-z][a-z0-9._-]{0,31}")
MOST_FAILURES, FORGOTTEN_AFTER = 8, 600.0  # wrong passwords for a name within so many seconds


@dataclass(frozen=True, slots=True)
class Who:
    """A person or a program that is known."""

    name: str
    role: str

    @property
    def is_admin(self) -> bool:
        """If this one may make new models and see all."""
        return self.role == ADMIN


LOCAL = Who("local", ADMIN)  # whoever sits at this machine, where no credential was made


class TooManyError(Exception):
    """Error of too many wrong passwords for one name."""


class Accounts:
    """Users and sessions in the worklist, and the token of the environment."""

    def __init__(self, database: Database, token: str | None = None) -> None:
        self.database = database
        self._token = None if token is None else _digest(token)
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_hex())
        self._one = threading.Lock()  # a hash takes 64 MB
        self._guessing = threading.Lock()
        self._failures: dict[str, deque[float]] = defaultdict(deque)  # times of wrong passwords, of any name

    def needed(self) -> bool:
        """Return if a credential was made, so that everyone needs one."""
        return self._token is not None or self.users() > 0

    def users(self) -> int:
        """Return the number of users."""
        with self.database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(users)) or 0

    def add(self, name: str, role: str, password: str) -> bool:
        """Add a user, or give one another role and password; return if the user is new. SettingsError."""
        if not NAME.fullmatch(name) or name in (LOCAL.name, TOKEN_NAME):
            remedy = "use small letters, digits and . _ -, a letter first"
            raise SettingsError("--add-user", "is no name that a user may have", remedy)
        if role not in ROLES:
            raise SettingsError("--role", f"{role!r} is unknown", f"choose {' or '.join(ROLES)}")
        if len(password) < LEAST_PASSWORD:
            raise SettingsError("password", "is too short", f"give {LEAST_PASSWORD} characters or more")
        row = {"name": name, "role": role, "hash": self._hasher.hash(password), "at": now()}
        with self.database.writing() as connection:
            new = connection.execute(delete(users).where(users.c.name == name)).rowcount == 0
            connection.execute(insert(users).values(row))
            audit.record(connection, "operator", "added user" if new else "changed user", name, role=role)
        return new

    def remove(self, name: str) -> None:
        """Remove a user, whose sessions end; SettingsError if there is none."""
        with self.database.writing() as connection:
            if not connection.execute(delete(users).where(users.c.name == name)).rowcount:
                raise SettingsError("--remove-user", f"there is no user {name!r}", "check the name")
            audit.record(connection, "operator", "removed user", name)

    def sign_in(self, name: str, password: str) -> str | None:
        """Return the cookie of a new session; None for a wrong name or password, TooManyError after many of them."""
        self._slow_down(name)
        with self.database.reading() as connection:
            found = connection.execute(select(users).where(users.c.name == name)).first()
        if name == TOKEN_NAME:
            right, user = self._token is not None and hmac.compare_digest(_digest(password), self._token), None
        else:
            right, user = self._matches(self._nobody if found is None else found.hash, password), name
        with self.database.writing() as connection:
            known = name if found is not None or name == TOKEN_NAME else "somebody"
            if not right:
                audit.record(connection, known, "failed to sign in", "")
                return None
            cookie = secrets.token_urlsafe(32)
            ends = datetime.now(UTC) + timedelta(hours=SESSION_HOURS)
            row = {"digest": _digest(cookie), "user": user, "ends": ends.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
            connection.execute(delete(sessions).where(sessions.c.ends < now()))
            connection.execute(insert(sessions).values(row))
            audit.record(connection, known, "signed in", "")
        with self._guessing:
            self._failures.pop(name, None)
        return cookie

    def sign_out(self, cookie: str) -> None:
        """End a session."""
        with self.database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.digest == _digest(cookie)))

    def by_cookie(self, cookie: str) -> Who | None:
        """Return whose session a cookie is; None if it is nobody's, or over."""
        chosen = select(sessions.c.user, users.c.role).outerjoin(users, users.c.name == sessions.c.user)
        with self.database.reading() as connection:
            found = connection.execute(
                chosen.where(sessions.c.digest == _digest(cookie), sessions.c.ends > now())
            ).first()
        if found is None:
            return None
        if found.user is None:
            return Who(TOKEN_NAME, READER) if self._token is not None else None
        return Who(found.user, found.role)

    def by_token(self, token: str) -> Who | None:
        """Return who comes with a token; None if it is not the one of the environment."""
        right = self._token is not None and hmac.compare_digest(_digest(token), self._token)
        return Who(TOKEN_NAME, READER) if right else None

    def _matches(self, hashed: str, password: str) -> bool:
        with self._one:
            try:
                return self._hasher.verify(hashed, password)
            except (VerifyMismatchError, InvalidHashError):
                return False

    def _slow_down(self, name: str) -> None:
        """Count a password for a name as wrong until it is found right; TooManyError if there were many just now.

        It counts before it is looked at, so that many at a time are no more than many in turn.
        """
        now = time.monotonic()
        with self._guessing:
            for other in [one for one, times in self._failures.items() if times[-1] < now - FORGOTTEN_AFTER]:
                del self._failures[other]
            failures = self._failures[name]
            while failures and failures[0] < now - FORGOTTEN_AFTER:
                failures.popleft()
            if len(failures) >= MOST_FAILURES:
                raise TooManyError
            failures.append(now)


def token_of_environment() -> str | None:
    """Return the token that the environment holds, None if there is none; SettingsError if it is too short."""
    token = os.environ.get(TOKEN)
    if token is not None and len(token) < LEAST_TOKEN:
        remedy = f"give {LEAST_TOKEN} characters or more: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        raise SettingsError(TOKEN, "is too short for a token", remedy)
    return token


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
