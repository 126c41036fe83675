# SPDX-License-Identifier: Apache-2.0
"""Alembic's entry: takes the steps on the connection, and in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from api.tables import Table

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # it alters tables by copying them
)
context.run_migrations()
