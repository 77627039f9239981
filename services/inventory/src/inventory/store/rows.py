"""Running literal SQL inside a unit of work."""

from collections.abc import Sequence
from typing import Any

from eventing import UnitOfWork


async def rows(work: UnitOfWork, statement: str, *arguments: Any) -> Sequence[Any]:
    result = await work.connection.exec_driver_sql(statement, arguments)
    return result.fetchall()


async def execute(work: UnitOfWork, statement: str, *arguments: Any) -> None:
    await work.connection.exec_driver_sql(statement, arguments)
