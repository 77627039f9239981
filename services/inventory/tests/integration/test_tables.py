"""The tables as code sees them and as the migration makes them."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from eventing import create_engine
from inventory.tables import metadata


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            # The runtime's partitions follow the calendar; its own tables are compared by its own tests.
            "include_object": lambda _object, name, kind, _reflected, _other: kind != "table" or name in OWN,
        },
    )
    return list(compare_metadata(context, metadata))


OWN = {
    "item",
    "location",
    "pool_stock",
    "place_stock",
    "place_day",
    "movement",
    "stock_order",
    "pending_stop",
    "order_request",
    "order_document",
    "backorder",
    "stuck_order",
    "stock_document",
    "policy",
    "bundle_part",
    "stock_cost",
    "incoming",
    "place_snapshot",
    "stock_level_sent",
}


async def test_the_migration_makes_the_tables_that_the_code_expects(migrated_database: Any) -> None:
    """Fails if a column is added in one place only."""
    engine = create_engine(await migrated_database("inventory"))
    async with engine.connect() as connection:
        differences = await connection.run_sync(_differences)
    await engine.dispose()
    assert [
        difference for difference in differences if "foreign" not in str(difference[0]) and "_fk" not in str(difference[0])
    ] == []
