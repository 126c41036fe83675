# SPDX-License-Identifier: Apache-2.0
"""How the database's tables came to be what `api.tables` says, step by step (Alembic).

A release that changes `api.tables` adds a module to `versions/`, with `upgrade` and `downgrade`; a
test compares what all steps make with `api.tables`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from admin.errors import ConfigError

_LOCK: Final = 0x53504C41  # of PostgreSQL, for as long as the transaction: any number does


def migrate(engine: Engine, revision: str, *, begin: str | None) -> None:
    """Take all steps to a revision, up or down, in one transaction; processes that start together
    take them one after the other.

    ConfigError: the database has a revision that this release does not know.
    """
    with engine.connect() as connection:
        if begin is not None:
            connection.exec_driver_sql(begin)
        else:
            # with a snapshot from before the lock, what others made meanwhile would not be seen
            connection.execution_options(isolation_level="READ COMMITTED")
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        _to(connection, revision)
        connection.commit()


def _to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    now = MigrationContext.configure(connection).get_current_revision()
    if now is not None and now not in known:
        url = connection.engine.url.render_as_string(hide_password=True)
        raise ConfigError(
            [
                f"database {url}: its tables are of revision {now}, and this release knows those up"
                f" to {known[-1]}; start the release that made them, or restore a backup from"
                " before it"
            ]
        )
    wanted = known[-1] if revision == "head" else revision
    places: dict[str | None, int] = {
        None: -1,
        "base": -1,
        **{name: place for place, name in enumerate(known)},
    }
    if places[wanted] >= places[now]:
        command.upgrade(config, wanted)
    else:
        command.downgrade(config, wanted)
