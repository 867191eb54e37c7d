"""Tables of the worklist; ``migrations/`` makes them, and a test holds the two together.

Times are text, ISO 8601 in UTC, which sorts as time does in every database. Identifiers are random and say nothing.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

ID_BYTES = 8
metadata = MetaData()


def new_id() -> str:
    """Return a new identifier, 16 hex digits."""
    return secrets.token_hex(ID_BYTES)


def now() -> str:
    """Return the time as the tables hold it.

    >>> len(now())
    27
    """
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


models = Table(  # models that scored something here: what their scores need to be shown
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("threshold", Float, nullable=False),
    Column("rule", Text, nullable=False),
    Column("rate", Float, nullable=False),
    Column("normals", JSON, nullable=False),  # scores of the held-out normals, rising
    Column("kinds", JSON, nullable=False),  # of abnormality, that the model has learnt
)

studies = Table(  # one row of the worklist; an image of no study is one by itself
    "studies",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("key", String(64), nullable=False),  # pseudonym
    Column("model", ForeignKey("models.id"), nullable=False),
    Column("patient", String(64), nullable=False),  # pseudonym
    Column("source", String(64), nullable=False),  # as the sender calls it
    Column("p_value", Float, nullable=False),
    Column("order", Float, nullable=False),  # minus the score: among equal p-values the higher score comes first
    Column("verdict", String(8), nullable=False),
    Column("outside", Boolean, nullable=False),
    Column("label", String(8), nullable=False),  # normal, abnormal, unsure, or empty
    Column("images", Integer, nullable=False),
    Column("at", String(32), nullable=False),
    UniqueConstraint("key", "model", name="one_row_a_study"),
    # holds all that the worklist filters by, so that no row is read that is not shown
    Index("worklist", "p_value", "order", "id", "model", "verdict", "outside", "label", "at", "source"),
    Index("studies_by_time", "at"),
)

images = Table(
    "images",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("study", ForeignKey("studies.id"), nullable=False),
    Column("model", ForeignKey("models.id"), nullable=False),
    Column("content", String(64), nullable=False),  # SHA-256 of the file, which is kept under it
    Column("slice", Integer, nullable=False),  # from 1; 0 of a file that holds one image
    Column("axis", String(8), nullable=False),  # across which a volume is cut; empty for frames and single images
    Column("position", Float, nullable=False),  # in its study: smaller comes first
    Column("patient", String(64), nullable=False),  # pseudonym
    Column("score", Float, nullable=False),
    Column("p_value", Float, nullable=False),
    Column("verdict", String(8), nullable=False),
    Column("outside", Text, nullable=False),  # why, or empty
    Column("row", JSON, nullable=False),  # as `aeflow score` writes it
    Column("height", Integer, nullable=False),  # pixels of the image itself
    Column("width", Integer, nullable=False),
    Column("label", String(8), nullable=False),
    Column("features", LargeBinary, nullable=False),  # float16, see ``suggestions``
    Column("at", String(32), nullable=False),
    UniqueConstraint("content", "slice", "model", name="one_score_an_image"),
    Index("images_of_study", "study", "position"),
    Index("images_by_label", "label", "p_value"),
)

pictures = Table(
    "pictures",
    metadata,
    Column("image", ForeignKey("images.id"), primary_key=True),
    Column("thumbnail", LargeBinary, nullable=False),  # JPEG
    Column("map", LargeBinary, nullable=False),  # PNG in the colours of the model's fixed scale
)

labels = Table(  # never changed: the last of a reader counts
    "labels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("image", ForeignKey("images.id"), nullable=False, index=True),
    Column("reader", String(64), nullable=False),
    Column("label", String(8), nullable=False),  # normal, abnormal, unsure; none: taken back
    Column("kind", String(64), nullable=False),
    Column("regions", JSON, nullable=False),  # [[left, top, right, bottom], ...] as shares of the image's sides
    Column("at", String(32), nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(8), nullable=False),
    Column("hash", Text, nullable=False),  # argon2id
    Column("at", String(32), nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the cookie
    Column("user", ForeignKey("users.name", ondelete="CASCADE")),  # none: who has the token
    Column("ends", String(32), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("who", String(64), nullable=False),
    Column("what", String(32), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("hash", String(64), nullable=False),
)
