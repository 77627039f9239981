"""Compacted facts sent once more, each day: a reader that lost one, or a topic that was made anew, has it again by tomorrow."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from eventing import NewTask, Task, UnitOfWork
from inventory.store import catalogue, levels

RESEND = "resend_compacted"
PAUSE = timedelta(hours=24)
PAGE = 500
FIRST = "item"
"""Kinds are gone through in this order: item, location, level."""


def resend_task(work: UnitOfWork) -> NewTask:
    """One is always open, once there is anything to send."""
    return NewTask(RESEND, "all", work.now + PAUSE, {"kind": FIRST, "after": None})


async def on_resend(tasks: Sequence[Task], work: UnitOfWork) -> None:
    """Send the next page, same numbers and versions as they stand; a level only where it was not sent within the day. Nothing
    is read back from the topics: what stands there is overwritten by the row, or was equal to it."""
    for task in tasks:
        kind, after = task.payload["kind"], task.payload["after"]
        following = await _send(kind, after, work)
        work.add_tasks([NewTask(RESEND, task.key, work.now, following)] if following else [resend_task(work)])


async def _send(kind: str, after: Any, work: UnitOfWork) -> dict[str, Any] | None:
    """Send a page; what comes after it, None at the end of all."""
    match kind:
        case "item":
            items = await catalogue.list_items_after(work, after or "", limit=PAGE)
            work.emit(items)
            return {"kind": kind, "after": items[-1].sku_id} if len(items) == PAGE else {"kind": "location", "after": None}
        case "location":
            places = await catalogue.list_locations_after(work, after or "", limit=PAGE)
            work.emit(places)
            return {"kind": kind, "after": places[-1].place_id} if len(places) == PAGE else {"kind": "level", "after": None}
        case _:
            sku_id, pool_id, place_no = after or ("", "", -1)
            old, last = await levels.find_old_levels(
                work, (sku_id, pool_id, place_no), sent_before=work.now - PAUSE, limit=PAGE
            )
            work.emit(await levels.read_levels(work, old))
            return None if last is None else {"kind": kind, "after": list(last)}
