"""The local Postgres and the database fixtures that every other test builds on."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

pytestmark = pytest.mark.postgres


async def test_a_fresh_database_keeps_chinese_text_and_sorts_it_by_code_point(
    empty_database: Callable[[], Awaitable[str]],
) -> None:
    """Fails when initdb's encoding or locale options go."""
    connection = await asyncpg.connect(await empty_database())
    try:
        await connection.execute("CREATE TABLE place (name text); INSERT INTO place VALUES ('上海'), ('ä'), ('北京')")
        rows = await connection.fetch("SELECT name FROM place ORDER BY name")
        assert [row["name"] for row in rows] == ["ä", "上海", "北京"]
        assert await connection.fetchval("SELECT upper('ä')") == "Ä"
    finally:
        await connection.close()


async def test_the_read_only_role_reads_tables_made_later_and_writes_nothing(
    empty_database: Callable[[], Awaitable[str]],
) -> None:
    """Fails when the default privileges or the role's read-only setting go."""
    url = await empty_database()
    owner = await asyncpg.connect(url)
    await owner.execute("CREATE TABLE note (body text); INSERT INTO note VALUES ('好')")
    await owner.close()
    reader = await asyncpg.connect(url.read_only)  # type: ignore[attr-defined]
    try:
        assert await reader.fetchval("SELECT body FROM note") == "好"
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader.execute("INSERT INTO note VALUES ('x')")
    finally:
        await reader.close()


async def test_databases_of_one_test_do_not_see_each_other(empty_database: Callable[[], Awaitable[str]]) -> None:
    """Fails when the factory hands out one database twice."""
    first, second = await empty_database(), await empty_database()
    assert first != second


async def test_a_migrated_database_has_its_services_tables_and_both_roles_may_read_them(
    migrated_database: Callable[[str], Awaitable[str]],
) -> None:
    """Fails when the template is not migrated, or a clone loses the grants of its template."""
    url = await migrated_database("router")
    for login in (url, url.read_only):  # type: ignore[attr-defined]
        connection = await asyncpg.connect(login)
        try:
            assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
            assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        finally:
            await connection.close()
