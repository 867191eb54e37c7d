"""The worklist shows the studies of one model at a time: its index holds the model, too."""

from __future__ import annotations

from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Make the index anew."""
    op.drop_index("worklist", "studies")
    columns = ["p_value", "order", "id", "model", "verdict", "outside", "label", "at", "source"]
    op.create_index("worklist", "studies", columns)
