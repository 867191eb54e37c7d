"""Runs the migrations on the connection that ``database`` gives, within its transaction."""

from __future__ import annotations

from alembic import context

from aeflow.serve.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
