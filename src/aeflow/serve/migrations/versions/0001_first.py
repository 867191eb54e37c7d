"""The tables of the first release that has a worklist."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def text(name: str, length: int) -> sa.Column[str]:
    """Return a column of text that every row has."""
    return sa.Column(name, sa.String(length), nullable=False)


def upgrade() -> None:
    """Make all tables and indices."""
    op.create_table(
        "models",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),
        sa.Column("threshold", sa.Float, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("rate", sa.Float, nullable=False),
        sa.Column("normals", sa.JSON, nullable=False),
        sa.Column("kinds", sa.JSON, nullable=False),
    )
    op.create_table(
        "studies",
        sa.Column("id", sa.String(16), primary_key=True),
        text("key", 64),
        sa.Column("model", sa.Integer, sa.ForeignKey("models.id"), nullable=False),
        text("patient", 64),
        text("source", 64),
        sa.Column("p_value", sa.Float, nullable=False),
        sa.Column("order", sa.Float, nullable=False),
        text("verdict", 8),
        sa.Column("outside", sa.Boolean, nullable=False),
        text("label", 8),
        sa.Column("images", sa.Integer, nullable=False),
        text("at", 32),
        sa.UniqueConstraint("key", "model", name="one_row_a_study"),
    )
    op.create_index("worklist", "studies", ["p_value", "order", "id", "verdict", "outside", "label", "at", "source"])
    op.create_index("studies_by_time", "studies", ["at"])
    op.create_table(
        "images",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("study", sa.String(16), sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("model", sa.Integer, sa.ForeignKey("models.id"), nullable=False),
        text("content", 64),
        sa.Column("slice", sa.Integer, nullable=False),
        text("axis", 8),
        sa.Column("position", sa.Float, nullable=False),
        text("patient", 64),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("p_value", sa.Float, nullable=False),
        text("verdict", 8),
        sa.Column("outside", sa.Text, nullable=False),
        sa.Column("row", sa.JSON, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        text("label", 8),
        sa.Column("features", sa.LargeBinary, nullable=False),
        text("at", 32),
        sa.UniqueConstraint("content", "slice", "model", name="one_score_an_image"),
    )
    op.create_index("images_of_study", "images", ["study", "position"])
    op.create_index("images_by_label", "images", ["label", "p_value"])
    op.create_table(
        "pictures",
        sa.Column("image", sa.String(16), sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("thumbnail", sa.LargeBinary, nullable=False),
        sa.Column("map", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("image", sa.String(16), sa.ForeignKey("images.id"), nullable=False),
        text("reader", 64),
        text("label", 8),
        text("kind", 64),
        sa.Column("regions", sa.JSON, nullable=False),
        text("at", 32),
    )
    op.create_index("ix_labels_image", "labels", ["image"])
    op.create_table(
        "users",
        sa.Column("name", sa.String(64), primary_key=True),
        text("role", 8),
        sa.Column("hash", sa.Text, nullable=False),
        text("at", 32),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("user", sa.String(64), sa.ForeignKey("users.name", ondelete="CASCADE")),
        text("ends", 32),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        text("at", 32),
        text("who", 64),
        text("what", 32),
        text("subject", 64),
        sa.Column("detail", sa.JSON, nullable=False),
        text("hash", 64),
    )
    _refuse_changes()


def _refuse_changes() -> None:
    """Let the database itself refuse to change or delete an event of the audit, or a label."""
    for table in ("audit", "labels"):
        if op.get_bind().dialect.name == "sqlite":
            for change in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'append only'); END"
                )
        else:
            op.execute(
                f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'append only'; END $$"
            )
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION {table}_append_only()"
            )
