"""What people set for the whole service: one JSON document per policy, kept in every process's memory."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from eventing import UnitOfWork
from inventory.store.rows import rows

POOLS = "pools"
"""Which shop sells from which pool: {shop key: pool_id}."""
SHORTAGE = "shortage"
"""What becomes of orders that are there in part: {shop key: "split"}; others wait whole."""
SAFETY = "safety"
"""Safety rules, a list."""


class Policy(NamedTuple):
    version: int
    content: Any
    changed_at: datetime


_SAVE_POLICY = """
INSERT INTO policy AS p (name, version, content, changed_at) VALUES ($1::text, 1, $2::text, $3::timestamptz)
ON CONFLICT (name) DO UPDATE SET version = p.version + 1, content = excluded.content, changed_at = excluded.changed_at
WHERE p.content <> excluded.content
RETURNING version
"""
_READ_POLICIES = "SELECT name, version, content, changed_at FROM policy"


async def save_policy(work: UnitOfWork, name: str, content: Any) -> bool:
    """Replace a policy; False where it is as it was."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return bool(await rows(work, _SAVE_POLICY, name, text, work.now))


async def find_policy(work: UnitOfWork, name: str) -> Policy | None:
    for row in await rows(work, _READ_POLICIES + " WHERE name = $1::text", name):
        return Policy(row.version, json.loads(row.content), row.changed_at)
    return None


async def read_policies(work: UnitOfWork) -> Mapping[str, Any]:
    return {row.name: json.loads(row.content) for row in await rows(work, _READ_POLICIES)}


def shop_key(channel: str, shop_id: str) -> str:
    """Channels are code words, so the first slash ends them."""
    return f"{channel}/{shop_id}"
