"""The only writer of vouchers, insert-only: claim and the origins' locks, then postings and what accounts are made of. Numbers
follow, last: store/numbering.py.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.domain.account import OriginFact, Units
from ledger.domain.posting import Fact, Home, Voucher, derived_claim, touches_of

# The rows of orders are the locks of origins as well (a plain order is its own origin), so they are taken sorted, in one
# statement, after the claims: whoever posts to an origin waits for whoever posted to it before, and then sees all of it.
_CLAIM = text(
    """
    WITH claimed AS (
        INSERT INTO voucher (
            voucher_id, claim_id, event_id, template, template_version, content_hash, root_id, order_id, shipment_id, channel,
            shop_id, currency, occurred_at, occurred_on, summary, total_minor, posting_count, hash, recorded_at
        )
        SELECT new.*, CAST(:now AS timestamptz) FROM unnest(
            CAST(:voucher_ids AS uuid[]), CAST(:claim_ids AS uuid[]), CAST(:event_ids AS uuid[]), CAST(:templates AS text[]),
            CAST(:versions AS integer[]), CAST(:content_hashes AS bytea[]), CAST(:root_ids AS uuid[]),
            CAST(:order_ids AS uuid[]), CAST(:shipment_ids AS uuid[]), CAST(:channels AS text[]), CAST(:shop_ids AS text[]),
            CAST(:currencies AS text[]), CAST(:occurred_at AS timestamptz[]), CAST(:occurred_on AS date[]),
            CAST(:summaries AS text[]), CAST(:totals AS bigint[]), CAST(:posting_counts AS integer[]), CAST(:hashes AS bytea[])
        ) AS new (
            voucher_id, claim_id, event_id, template, template_version, content_hash, root_id, order_id, shipment_id, channel,
            shop_id, currency, occurred_at, occurred_on, summary, total_minor, posting_count, hash
        )
        -- An order is paid once, however often it is told: a restored ingest tells it again, under another event id.
        LEFT JOIN LATERAL (
            SELECT true AS told FROM voucher
            WHERE new.template = 'paid' AND voucher.order_id = new.order_id AND voucher.template = 'paid' LIMIT 1
        ) AS earlier ON true
        WHERE earlier.told IS NULL
        ON CONFLICT (claim_id, template) DO NOTHING
        RETURNING voucher_id, order_id, channel, posting_count
    ), origin AS (
        SELECT claimed.order_id, touched.* FROM unnest(
            CAST(:touching AS uuid[]), CAST(:origins AS uuid[]), CAST(:entangles AS boolean[]), CAST(:confirms AS boolean[])
        ) AS touched (voucher_id, origin_order_id, entangles, confirms) JOIN claimed USING (voucher_id)
    ), stepped AS (
        INSERT INTO order_account AS known (order_id, step, is_order, entangled, confirmed)
        SELECT order_id, sum(steps), bool_or(is_order), bool_or(entangles), bool_or(confirms) FROM (
            SELECT order_id, least(posting_count, 1) AS steps, channel <> '' AS is_order, false AS entangles,
                   false AS confirms FROM claimed
            UNION ALL
            SELECT origin_order_id, 0, true, entangles, confirms FROM origin
        ) AS touched
        GROUP BY order_id ORDER BY order_id
        ON CONFLICT (order_id) DO UPDATE SET
            step = known.step + excluded.step,
            entangled = known.entangled OR excluded.entangled,
            confirmed = known.confirmed OR excluded.confirmed
        RETURNING order_id, step, entangled
    ), parts AS (
        INSERT INTO origin_part (origin_order_id, order_id)
        SELECT DISTINCT origin_order_id, order_id FROM origin WHERE origin_order_id <> order_id
        ON CONFLICT DO NOTHING
    )
    SELECT claimed.voucher_id, stepped.order_id, stepped.step, stepped.entangled
    FROM stepped LEFT JOIN claimed USING (order_id)
    """
)
_FIND_CLAIMS = text(
    """
    SELECT told.claim_id, told.template, posted.event_id, posted.content_hash
    FROM unnest(CAST(:claim_ids AS uuid[]), CAST(:templates AS text[]), CAST(:order_ids AS uuid[]))
        AS told (claim_id, template, order_id)
    CROSS JOIN LATERAL (
        SELECT event_id, content_hash FROM voucher WHERE claim_id = told.claim_id AND template = told.template
        UNION ALL
        SELECT event_id, content_hash FROM voucher
        WHERE told.template = 'paid' AND template = 'paid' AND order_id = told.order_id
        LIMIT 1
    ) AS posted
    """
)
_FIND_CONFIRMED = text("SELECT order_id FROM order_account WHERE confirmed AND order_id = ANY(CAST(:origins AS uuid[]))")
# By the orders that carry lines of an origin, since an index of facts by origin would be paid for by every plain order.
_ORIGIN_FACTS = text(
    """
    SELECT f.origin_order_id, f.currency, f.phase, f.origin_line, f.sku_id, f.shipment_id,
           min(f.order_id::text)::uuid AS order_id, min(f.channel) AS channel, min(f.shop_id) AS shop_id,
           min(f.paid_on) AS paid_on, sum(f.quantity)::bigint AS quantity, sum(f.revenue_minor)::bigint AS net,
           sum(f.tax_minor)::bigint AS tax, sum(f.cost_minor)::bigint AS cost, max(v.occurred_at) AS last_occurred_at
    FROM unnest(CAST(:origins AS uuid[])) AS wanted (origin_order_id)
    CROSS JOIN LATERAL (
        SELECT wanted.origin_order_id AS order_id
        UNION SELECT order_id FROM origin_part WHERE origin_part.origin_order_id = wanted.origin_order_id
    ) AS carrying
    JOIN voucher AS v ON v.order_id = carrying.order_id
    JOIN profit_fact AS f ON f.voucher_id = v.voucher_id AND f.origin_order_id = wanted.origin_order_id
    GROUP BY f.origin_order_id, f.currency, f.phase, f.origin_line, f.sku_id, f.shipment_id
    ORDER BY f.origin_order_id, f.phase, f.origin_line, f.sku_id, f.shipment_id
    """
)
_TOUCHED = text(
    """
    SELECT array_agg(DISTINCT origin_order_id) AS origins, min(paid_on) AS paid_on FROM profit_fact
    WHERE voucher_id = :voucher_id
    """
)
_REVERSE_FACTS = text(
    """
    INSERT INTO profit_fact (
        voucher_id, line, phase, order_id, shipment_id, origin_order_id, origin_line, channel, shop_id, sku_id, currency,
        paid_on, occurred_on, quantity, revenue_minor, tax_minor, cost_minor, freight_minor
    )
    SELECT :reversal_id, line, phase, order_id, shipment_id, origin_order_id, origin_line, channel, shop_id, sku_id, currency,
           paid_on, CAST(:occurred_on AS date), -quantity, -revenue_minor, -tax_minor, -cost_minor, -freight_minor
    FROM profit_fact WHERE voucher_id = :voucher_id
    """
)
_ADD_FLAGS = text(
    """
    INSERT INTO posting_flag (flag_id, event_id, template, order_id, code, params, content_hash, flagged_at)
    SELECT flag_id, event_id, template, order_id, code, params::jsonb, content_hash, CAST(:now AS timestamptz) FROM unnest(
        CAST(:flag_ids AS uuid[]), CAST(:event_ids AS uuid[]), CAST(:templates AS text[]), CAST(:order_ids AS uuid[]),
        CAST(:codes AS text[]), CAST(:params AS text[]), CAST(:content_hashes AS bytea[])
    ) AS flag (flag_id, event_id, template, order_id, code, params, content_hash)
    ON CONFLICT (flag_id) DO NOTHING
    """
)
_ADD_POSTINGS = text(
    """
    WITH added AS (
        INSERT INTO posting (voucher_id, line, account, debit_minor, credit_minor, origin_order_id, origin_line)
        SELECT * FROM unnest(
            CAST(:voucher_ids AS uuid[]), CAST(:lines AS integer[]), CAST(:accounts AS text[]), CAST(:debits AS bigint[]),
            CAST(:credits AS bigint[]), CAST(:origin_order_ids AS uuid[]), CAST(:origin_lines AS integer[])
        )
    )
    INSERT INTO profit_fact (
        voucher_id, line, phase, order_id, shipment_id, origin_order_id, origin_line, channel, shop_id, sku_id, currency,
        paid_on, occurred_on, quantity, revenue_minor, tax_minor, cost_minor, freight_minor
    )
    SELECT * FROM unnest(
        CAST(:fact_voucher_ids AS uuid[]), CAST(:fact_lines AS integer[]), CAST(:phases AS text[]),
        CAST(:order_ids AS uuid[]), CAST(:shipment_ids AS uuid[]), CAST(:fact_origin_order_ids AS uuid[]),
        CAST(:fact_origin_lines AS integer[]), CAST(:channels AS text[]), CAST(:shop_ids AS text[]), CAST(:sku_ids AS text[]),
        CAST(:currencies AS text[]), CAST(:paid_on AS date[]), CAST(:occurred_on AS date[]), CAST(:quantities AS integer[]),
        CAST(:revenues AS bigint[]), CAST(:taxes AS bigint[]), CAST(:costs AS bigint[]), CAST(:freights AS bigint[])
    )
    """
)


class Claims(NamedTuple):
    """What a batch got to post."""

    voucher_ids: Collection[UUID]
    """Of vouchers whose (claim, template) was not there yet; all others were posted before."""
    steps: Mapping[UUID, int]
    """Order → its step after all of its vouchers here."""
    entangled: Collection[UUID]
    """Origins that more is known of than payment, shipment and delivery: their accounts must be looked at."""


async def claim_vouchers(connection: AsyncConnection, vouchers: Sequence[Voucher], *, now: datetime) -> Claims:
    """Write vouchers whose (claim, template) was not there yet, and lock their orders and origins."""
    ordered = sorted(vouchers, key=lambda voucher: voucher.claim)
    contents = [voucher.content for voucher in ordered]
    touches = [(voucher.voucher_id, *touch) for voucher in ordered for touch in touches_of(voucher.fact)]
    touching, origins, entangles, confirms = zip(*touches, strict=True) if touches else ((), (), (), ())
    rows = await connection.execute(
        _CLAIM,
        {
            "voucher_ids": [c.voucher_id for c in contents],
            "claim_ids": [voucher.fact.claim_id for voucher in ordered],
            "event_ids": [c.event_id for c in contents],
            "templates": [c.template for c in contents],
            "versions": [c.template_version for c in contents],
            "content_hashes": [c.content_hash for c in contents],
            "root_ids": [c.root_id for c in contents],
            "order_ids": [c.order_id for c in contents],
            "shipment_ids": [c.shipment_id for c in contents],
            "channels": [c.channel for c in contents],
            "shop_ids": [c.shop_id for c in contents],
            "currencies": [c.currency for c in contents],
            "occurred_at": [c.occurred_at for c in contents],
            "occurred_on": [voucher.occurred_on for voucher in ordered],
            "summaries": [c.summary for c in contents],
            "totals": [voucher.total_minor for voucher in ordered],
            "posting_counts": [len(voucher.postings) for voucher in ordered],
            "hashes": [voucher.hash for voucher in ordered],
            "touching": touching,
            "origins": origins,
            "entangles": entangles,
            "confirms": confirms,
            "now": now,
        },
    )
    voucher_ids, steps, entangled = set(), {}, set()
    for voucher_id, order_id, step, is_entangled in rows:
        steps[order_id] = step
        if voucher_id is not None:
            voucher_ids.add(voucher_id)
        if is_entangled:
            entangled.add(order_id)
    return Claims(voucher_ids, steps, entangled)


async def find_claims(connection: AsyncConnection, facts: Sequence[Fact]) -> dict[tuple[UUID, str], tuple[UUID, bytes]]:
    """(claim, template) → event and content hash of those that were posted from before."""
    parameters = {
        "claim_ids": [fact.claim_id for fact in facts],
        "templates": [fact.template for fact in facts],
        "order_ids": [fact.order_id for fact in facts],
    }
    rows = await connection.execute(_FIND_CLAIMS, parameters)
    return {(row.claim_id, row.template): (row.event_id, row.content_hash) for row in rows}


async def find_confirmed(connection: AsyncConnection, origins: Collection[UUID]) -> set[UUID]:
    """Those of which buyers have confirmed something. Read without a lock: who comes late is put right by the accounts."""
    return set((await connection.execute(_FIND_CONFIRMED, {"origins": sorted(origins)})).scalars())


class OriginAccount(NamedTuple):
    facts: Sequence[OriginFact]
    last_occurred_at: datetime


async def get_origin_facts(connection: AsyncConnection, origins: Collection[UUID]) -> dict[tuple[UUID, str], OriginAccount]:
    """(origin order, currency) → all that was posted for its lines, whichever orders they move in.

    To decide by it, its row must be locked.
    """
    facts: dict[tuple[UUID, str], list[OriginFact]] = {}
    last: dict[tuple[UUID, str], datetime] = {}
    for row in await connection.execute(_ORIGIN_FACTS, {"origins": sorted(origins)}):
        key = (row.origin_order_id, row.currency)
        home = Home(row.order_id, row.shipment_id, row.channel, row.shop_id, row.paid_on)
        units = Units(row.quantity, row.net, row.tax, row.cost)
        facts.setdefault(key, []).append(OriginFact(row.phase, home, row.origin_line, row.sku_id, units))
        last[key] = max(last.get(key, row.last_occurred_at), row.last_occurred_at)
    return {key: OriginAccount(members, last[key]) for key, members in facts.items()}


class Touched(NamedTuple):
    origins: Sequence[UUID]
    paid_on: date | None


async def get_touched(connection: AsyncConnection, voucher_id: UUID) -> Touched:
    """The origins whose accounts a voucher moved, and the day their order was paid."""
    row = (await connection.execute(_TOUCHED, {"voucher_id": voucher_id})).one()
    return Touched(row.origins or (), row.paid_on)


async def add_reversed_facts(connection: AsyncConnection, voucher_id: UUID, *, reversal_id: UUID, occurred_on: date) -> None:
    """Take what profit and accounts are made of back, row by row."""
    parameters = {"voucher_id": voucher_id, "reversal_id": reversal_id, "occurred_on": occurred_on}
    await connection.execute(_REVERSE_FACTS, parameters)


class Flag(NamedTuple):
    """Something a person should look at; it stopped nothing."""

    fact: Fact
    code: str
    params: Mapping[str, object]


async def add_flags(connection: AsyncConnection, flags: Sequence[Flag], *, now: datetime) -> None:
    """Each once, however often it comes up: what a flag says is its id."""
    params = [json.dumps(flag.params, ensure_ascii=False) for flag in flags]
    await connection.execute(
        _ADD_FLAGS,
        {
            "flag_ids": [
                derived_claim(flag.fact.event_id, flag.fact.template, flag.code, flag.fact.content_hash.hex(), said)
                for flag, said in zip(flags, params, strict=True)
            ],
            "event_ids": [flag.fact.event_id for flag in flags],
            "templates": [flag.fact.template for flag in flags],
            "order_ids": [flag.fact.order_id for flag in flags],
            "codes": [flag.code for flag in flags],
            "params": params,
            "content_hashes": [flag.fact.content_hash for flag in flags],
            "now": now,
        },
    )


async def add_postings(connection: AsyncConnection, vouchers: Iterable[Voucher]) -> None:
    """Write the postings of claimed vouchers and, beside them, what profit is made of.

    **Errors**: a check violation of `posting_balance` where debits and credits of a voucher differ.
    """
    voucher_ids, lines, accounts, debits, credits, origin_order_ids, origin_lines = ([] for _ in range(7))  # noqa: A001
    facts: list[tuple[object, ...]] = []
    for voucher in vouchers:
        voucher_id = voucher.voucher_id
        for line, posting in enumerate(voucher.postings, 1):
            voucher_ids.append(voucher_id)
            lines.append(line)
            accounts.append(posting[0])
            debits.append(posting[1])
            credits.append(posting[2])
            origin_order_ids.append(posting[3])
            origin_lines.append(posting[4])
        facts += _profit_rows(voucher)
    columns = zip(*facts, strict=True) if facts else [()] * len(_FACT_COLUMNS)
    await connection.execute(
        _ADD_POSTINGS,
        {
            "voucher_ids": voucher_ids,
            "lines": lines,
            "accounts": accounts,
            "debits": debits,
            "credits": credits,
            "origin_order_ids": origin_order_ids,
            "origin_lines": origin_lines,
            **dict(zip(_FACT_COLUMNS, columns, strict=True)),
        },
    )


def _profit_rows(voucher: Voucher) -> Iterable[tuple[object, ...]]:
    """What a voucher says of every line; what only arrived, and what damage cost, under phases of their own."""
    fact = voucher.fact
    if not fact.has_profit:
        return
    order_id, shipment_id, channel, shop_id, paid_on = fact.home or fact.own_home
    phases = [(fact.template, fact.lines)]
    if fact.deferred:
        phases.append(("arrived", fact.deferred))
    if fact.template == "return_bad":
        phases.append(("write_off", fact.lines))
    number = 0
    for phase, lines in phases:
        head = (phase, order_id, shipment_id)
        tail = (fact.currency, paid_on, voucher.occurred_on)
        for origin_order_id, origin_line, sku_id, quantity, amounts, _ in lines:
            number += 1
            revenue = amounts.paid + amounts.subsidy - amounts.tax
            cost = amounts.cost - amounts.residual if phase == "write_off" else amounts.cost
            yield (
                voucher.voucher_id, number, *head, origin_order_id, origin_line, channel, shop_id, sku_id, *tail, quantity,
                revenue, amounts.tax, cost, amounts.freight_estimate,
            )  # fmt: skip


_FACT_COLUMNS = (
    "fact_voucher_ids", "fact_lines", "phases", "order_ids", "shipment_ids", "fact_origin_order_ids", "fact_origin_lines",
    "channels", "shop_ids", "sku_ids", "currencies", "paid_on", "occurred_on", "quantities", "revenues", "taxes", "costs",
    "freights",
)  # fmt: skip
