# SPDX-License-Identifier: Apache-2.0
"""The database's tables, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from admin.errors import ConfigError
from api.database import Database
from api.tables import Table


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def tables_of(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names()) - {"alembic_version"}


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []
    assert tables_of(database) == set(Table.metadata.tables)


def test_migrations_go_down_and_up_again(database: Database) -> None:
    database.migrate()
    database.migrate("base")
    assert tables_of(database) == set()
    database.migrate()
    assert tables_of(database) == set(Table.metadata.tables)


def test_to_migrate_again_changes_nothing(database: Database) -> None:
    database.migrate()
    with database.writing() as session:
        session.execute(text("INSERT INTO generations VALUES (1, 0, 'ann', 'import', '')"))
    database.migrate()
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM generations")) == 1


def test_a_new_file_is_for_its_user_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/api.db")
    database.migrate()
    with database.writing() as session:
        session.execute(text("INSERT INTO generations VALUES (1, 0, 'ann', 'import', '')"))
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    database.close()


def test_a_database_of_a_newer_release_is_refused(database: Database) -> None:
    database.migrate()
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="its tables are of revision 9999"):
        database.migrate()
    assert tables_of(database) == set(Table.metadata.tables)
