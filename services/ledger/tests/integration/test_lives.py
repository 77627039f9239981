"""Whole lives of orders: whatever happens, in whatever order, however often it is told, the books end the same."""

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from contracts import Event, StockAdjusted
from contracts.order import Part
from eventing.testing import Harness
from eventing.testing.values import SeededIds
from ledger.store import numbering, setup

from .conftest import Story, make_harness
from .test_posting import balances_of, movement_of, publish, rows_of, vouchers_of

REASON = {"reason": "录错了"}
WHOLE = ((1, 21403, 23800, 2738), (2, 5387, 5387, 620), (0, 1000, 1000, 57))
ALL_UNITS = ((1, "DRESS01-RED-M", 2), (2, "SOCK02-WHT", 1))


async def waiting_for_a_lock(engine: AsyncEngine, count: int = 1) -> None:
    """Until so many sessions of this database wait for a lock."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    async with asyncio.timeout(5), engine.connect() as connection:
        while await connection.scalar(query) < count:
            await connection.rollback()  # Activity is seen anew in a new transaction only.
            await asyncio.sleep(0.01)


async def nonzero(engine: AsyncEngine, book: str = "main") -> dict[str, int]:
    return {account: amount for account, amount in (await balances_of(engine, book)).items() if amount}


Life = Callable[[Story], Sequence[Event]]
LIVES: dict[str, tuple[Life, dict[str, int]]] = {
    "refunded before it was sent": (lambda s: [s.received, s.refunded(1, *WHOLE)], {}),
    "refunded after it was delivered, goods kept": (
        lambda s: [*s.all, s.refunded(1, *WHOLE)],
        {"1405.01": -13900, "6401": 13900, "6601.01": 1350, "2202.01": -1350},
    ),
    "refunded and back for sale": (
        lambda s: [*s.all, s.refunded(1, *WHOLE), s.returned(1, (0, 2, "good"), (1, 1, "good"))],
        {"6601.01": 1350, "2202.01": -1350},
    ),
    "never delivered, back damaged and incomplete": (
        lambda s: [
            s.received, s.shipped, s.refunded(1, *WHOLE), s.returned(1, (0, 1, "bad"), (0, 1, "missing"), (1, 1, "bad")),
        ],
        {"1405.01": -13900, "1405.02": 2310, "6701": 5390, "1901": 6200, "6601.01": 1350, "2202.01": -1350},
    ),
    "lost and refunded": (
        lambda s: [s.received, s.shipped, s.lost, s.refunded(1, *WHOLE)],
        {"1405.01": -13900, "1901": 13900, "6601.01": 1350, "2202.01": -1350},
    ),
    "lost, and delivered after all": (
        lambda s: [*s.all, s.lost],
        {
            "1122.01": 27790, "1122.02": 2397, "2221.01": -3415, "6001": -26772, "1405.01": -13900, "6401": 13900,
            "6601.01": 1350, "2202.01": -1350,
        },
    ),
    "confirmed by the buyer alone": (
        lambda s: [s.received, s.shipped, s.confirmed(1, *ALL_UNITS)],
        {
            "1122.01": 27790, "1122.02": 2397, "2221.01": -3415, "6001": -26772, "1405.01": -13900, "6401": 13900,
            "6601.01": 1350, "2202.01": -1350,
        },
    ),
    "cheaper afterwards": (
        lambda s: [*s.all, s.changed((23800, 12500)), s.refunded(1, (2, 5387, 5387, 620))],
        {
            "1122.01": 27790 - 11300 - 5387, "1122.02": 2397, "2221.01": -3415 + 1300 + 620, "6001": -26772 + 10000 + 4767,
            "1405.01": -13900, "6401": 13900, "6601.01": 1350, "2202.01": -1350,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIVES)
@pytest.mark.parametrize("backwards", [False, True])
async def test_a_life_ends_with_what_is_left_of_it(
    engine: AsyncEngine, harness: Harness, http: httpx.AsyncClient, name: str, backwards: bool
) -> None:
    """Fails when an overlap is not moved, is moved twice, or only where events come in their own order."""
    life, balances = LIVES[name]
    events = list(life(Story()))
    for event in reversed(events) if backwards else events:
        assert (await harness.receive([event])).parked == []
    assert await nonzero(engine) == balances
    order_id = events[0].model_dump()["order_id"]
    accounts = (await http.get(f"/v1/orders/{order_id}/accounts")).json()
    assert (accounts["closed"], [line["open"] for line in accounts["lines"] if line["open"]]) == (True, [])
    assert (await http.get("/v1/chain/verify")).json()["holds"] is True


async def test_what_the_buyer_confirmed_is_not_recognised_again_on_delivery(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when a delivery posts although the receipt has recognised its goods."""
    story = Story()
    emitted = (await harness.receive([story.received, *story.parcels(story.shipped)])).emitted
    assert [v.template for v in vouchers_of(emitted)] == ["paid", "shipped", "shipped"]
    confirmed = vouchers_of((await harness.receive([story.confirmed(1, (1, "DRESS01-RED-M", 2))])).emitted)
    assert [v.template for v in confirmed] == ["recognised", "recognised"]
    assert [v.progress.step for v in confirmed] == [4, 5]
    (rest,) = vouchers_of((await harness.receive(story.parcels(story.delivered))).emitted)
    assert (rest.template, movement_of(rest)["6001"]) == ("recognised", -4767)
    assert (await harness.receive([story.confirmed(2, *ALL_UNITS)])).emitted == []
    assert (await balances_of(engine))["6001"] == -26772


async def test_a_book_may_wait_for_the_buyer(harness: Harness, http: httpx.AsyncClient, engine: AsyncEngine) -> None:
    """Fails when a delivery is recognised under the policy `receipt_confirmed`, or an older order follows it too."""
    policy = REASON | {"recognition": "receipt_confirmed", "damaged_value_bp": 1000}
    answer = await http.put("/v1/policy", json=policy)
    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    assert (await http.put("/v1/policy", json=policy | {"valid_from": "2020-01-01T00:00:00Z"})).status_code == 422
    harness.clock.advance(seconds=3600)
    old, new = Story(), Story(at=harness.clock.now().isoformat())
    await harness.receive([*old.all, *new.all])
    assert (await balances_of(engine))["6001"] == -26772
    waiting = (await http.get(f"/v1/orders/{new.order_id}/accounts")).json()
    assert {one["code"] for line in waiting["lines"] for one in line["open"]} == {"liability_open", "goods_out"}
    await harness.receive([new.confirmed(1, *ALL_UNITS)])
    assert (await balances_of(engine))["6001"] == -26772 * 2
    assert [p["version"] for p in (await http.get("/v1/policies")).json()["items"]] == [1, 0]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
async def test_any_order_with_copies_in_any_batches_ends_the_same(engine: AsyncEngine, seed: int) -> None:
    """Fails when an effect has no claim of its own, or an account is settled by what one batch knows."""
    chance = random.Random(seed)
    wanted = set(chance.sample(range(10), k=chance.randint(0, 10)))
    prices = [23800, *(chance.randint(10000, 30000) for _ in range(3))]
    ends = []
    for shuffled in (False, True):
        story = Story()
        part = uuid4()  # The second parcel is that of an order split off.
        choices: list[Sequence[Event]] = [
            story.parcels(story.delivered)[:1],
            [moved(story.parcels(story.delivered)[1], part)],
            [story.confirmed(1, (1, "DRESS01-RED-M", 2))],
            [story.confirmed(2, (2, "SOCK02-WHT", 1))],
            [story.changed(pair, request=n) for n, pair in enumerate(pairwise(prices))],
            [story.refunded(1, (1, 5000, 5500, 632), (0, 1000, 1000, 57))],
            [story.refunded(2, (2, 5387, 5387, 620))],
            [story.returned(1, (0, 1, "good"))],
            [story.returned(2, (0, 1, "bad"), (1, 1, "missing"))],
            story.parcels(story.lost)[:1],
        ]
        first, second = story.parcels(story.shipped)
        events = [story.received, first, moved(second, part)]
        events += [event for number in sorted(wanted) for event in choices[number]]
        book = f"book_{uuid4().hex}"
        harness = make_harness(engine, book=book, ids=SeededIds(uuid4().int))
        records = publish(harness, events)
        if shuffled:
            records += chance.sample(records, k=chance.randint(0, len(records)))
            chance.shuffle(records)
        while records:
            count = chance.randint(1, len(records))
            assert (await harness.deliver(records[:count])).parked == []
            records = records[count:]
        ends.append(await nonzero(engine, book))
    assert ends[0] == ends[1]
    assert sum(ends[0].values()) == 0


async def test_a_business_fact_counts_once_for_ever_whatever_event_tells_it(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when the claim is the event: a platform asked twice about a refund would pay it out twice in the books."""
    story = Story()
    again = [
        *story.all[1:],
        story.lost,
        story.refunded(1, *WHOLE),
        story.returned(1, (0, 1, "good"), (0, 1, "bad")),
        story.confirmed(1, *ALL_UNITS),
        story.changed((100, 90)),
    ]
    await harness.receive([story.received, *again])
    before = await balances_of(engine)
    assert (await harness.receive(again)).emitted == []
    assert await balances_of(engine) == before
    (second,) = vouchers_of((await harness.receive([story.returned(1, (0, 1, "good"), (1, 1, "good"))])).emitted)[:1]
    assert (second.template, movement_of(second)["1405.01"]) == ("return_good", 1500)


async def test_an_order_taken_up_again_brings_no_money_but_its_goods_count(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when a revived order is paid twice, or its parcels do not meet the payment of the first."""
    first, again = Story(), uuid4()
    refund = first.refunded(1, WHOLE[0])
    later = [
        event.model_copy(update={"order_id": again, "root_id": again, "part": part_of(event.part, again)})
        for event in first.all
    ]
    revived = later[0].model_copy(update={"revives": first.order_id})
    await harness.receive([refund, *later[1:], revived, first.received])
    balances = await balances_of(engine)
    assert (balances["6001"], balances["2204"], balances["1122.01"]) == (-26772 + 21062, 0, 27790 - 21403)
    steps = await rows_of(engine, "SELECT order_id, step FROM posted_order ORDER BY step")
    assert {row.order_id for row in steps} == {first.order_id, again}


def moved(event: Any, order_id: UUID) -> Any:
    """The event as one of a part of its order."""
    return event.model_copy(update={"order_id": order_id, "part": event.part.model_copy(update={"order_id": order_id})})


def part_of(part: Part, order_id: UUID) -> Part:
    return part.model_copy(update={"order_id": order_id, "root_id": order_id, "parent_id": None})


async def test_a_split_off_part_delivered_after_the_refund_meets_it(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when an order's vouchers look at its own row alone, and not at those of the origins that its lines come from."""
    story, part = Story(), uuid4()
    await harness.receive([story.received, moved(story.shipped, part), story.refunded(1, *WHOLE)])
    await harness.receive([moved(story.delivered, part)])
    balances = await nonzero(engine)
    assert balances == {"1405.01": -13900, "6401": 13900, "6601.01": 1350, "2202.01": -1350}


def a_document(kind: str, quantity: int, *, reason: str = "x") -> StockAdjusted:
    return StockAdjusted.model_validate(
        {
            "document_id": str(uuid4()), "kind": kind, "reference": "单据一", "place_id": "WH-HZ1", "reason": reason,
            "lines": [{"sku_id": "SOCK02-WHT", "quantity": quantity, "unit_cost_minor": 1000}],
            "occurred_at": "2026-11-20T02:00:00Z",
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "quantity", "movement"),
    [
        ("receipt", 5, {"1405.01": 5000, "2202.02": -5000}),
        ("count", -2, {"1405.01": -2000, "1901": 2000}),
        ("adjustment", 2, {"1405.01": 2000, "1901": -2000}),
        ("damage", -1, {"1405.01": -1000, "1405.02": 300, "6701": 700}),
        ("transfer_out", -3, {"1405.01": -3000, "1405.03": 3000}),
        ("transfer_in", 3, {"1405.01": 3000, "1405.03": -3000}),
        ("teleported", -1, {"1405.01": -1000, "1901": 1000}),
    ],
)
async def test_stock_documents_are_posted_as_what_they_are(
    harness: Harness, engine: AsyncEngine, kind: str, quantity: int, movement: dict[str, int]
) -> None:
    """Fails when a sign is lost, a redelivery is posted again, or a kind that nobody knows stops the partition."""
    document, event_id = a_document(kind, quantity), uuid4()
    (voucher,) = vouchers_of((await harness.receive([document], id=event_id)).emitted)
    assert vouchers_of((await harness.receive([document], id=event_id)).emitted) == []
    assert movement_of(voucher) == movement
    assert (voucher.about, voucher.order_id, voucher.progress.step) == ("stock", document.document_id, 1)
    assert await rows_of(engine, "SELECT 1 FROM posted_order") == []
    flags = [row.code for row in await rows_of(engine, "SELECT code FROM posting_flag")]
    assert flags == (["unknown_value"] if kind == "teleported" else [])


async def test_a_document_told_in_pieces_is_posted_whole(harness: Harness, engine: AsyncEngine) -> None:
    """Fails when a document is posted once: the second thousand lines, or what a transfer brought later, would be missing."""
    document = a_document("transfer_in", 3)
    assert len(vouchers_of((await harness.receive([document, document])).emitted)) == 2
    assert await nonzero(engine) == {"1405.01": 6000, "1405.03": -6000}


async def test_a_reversal_takes_a_voucher_back_once(harness: Harness, http: httpx.AsyncClient, engine: AsyncEngine) -> None:
    """Fails when what followed from the reversed voucher stays, or a second reversal is posted."""
    story = Story()
    await harness.receive(story.all)
    before = await nonzero(engine)
    refund, overlap = vouchers_of((await harness.receive([story.refunded(1, *WHOLE)])).emitted)
    assert (refund.template, overlap.template) == ("refunded", "recognition_overlap")
    derived = await http.post(f"/v1/vouchers/{overlap.voucher_id}/reversal", json=REASON)
    assert (derived.status_code, derived.json()["code"]) == (409, "voucher_is_derived")
    path, key = f"/v1/vouchers/{refund.voucher_id}/reversal", {"Idempotency-Key": "once"}
    made = await http.post(path, json=REASON, headers=key)
    assert made.status_code == 201, made.text
    assert (made.json()["reverses"], made.json()["template"]) == (str(refund.voucher_id), "reversal")
    assert "冲销 记-4 退款" in made.json()["summary"]
    assert await nonzero(engine) == before
    assert (await http.post(path, json=REASON, headers=key)).json() == made.json()
    assert (await http.post(path, json=REASON)).json()["code"] == "voucher_already_reversed"
    second = await http.post(f"/v1/vouchers/{made.json()['voucher_id']}/reversal", json=REASON)
    assert second.json()["code"] == "reversal_not_reversible"
    shown = (await http.get(f"/v1/vouchers/{refund.voucher_id}")).json()
    assert shown["reversed_by"] == made.json()["voucher_id"]
    events = vouchers_of(await harness.emitted())
    assert [(v.template, v.progress.step) for v in events] == [("reversal", 6), ("recognition_overlap", 7)]
    assert (await http.get("/v1/chain/verify")).json()["holds"] is True
    assert (await http.get("/v1/operations/acts")).json()["items"][0]["why"] == "录错了"
    missing = await http.post(f"/v1/vouchers/{uuid4()}/reversal", json=REASON)
    assert missing.status_code == 404


MANUAL = REASON | {
    "summary": "平台结算",
    "entries": [{"account": "1012", "debit_minor": 500}, {"account": "1122.01", "credit_minor": 500}],
}


async def test_a_voucher_by_hand_is_posted_numbered_and_reversible(http: httpx.AsyncClient, engine: AsyncEngine) -> None:
    made = await http.post("/v1/vouchers", json=MANUAL | {"dated": "2026-10-31"}, headers={"Idempotency-Key": "a"})
    assert (made.status_code, made.json()["posted_on"], made.json()["number"]) == (201, "2026-10-31", 1)
    assert await nonzero(engine) == {"1012": 500, "1122.01": -500}
    reversal = await http.post(f"/v1/vouchers/{made.json()['voucher_id']}/reversal", json=REASON)
    assert reversal.status_code == 201
    assert await nonzero(engine) == {}
    assert await rows_of(engine, "SELECT 1 FROM posted_order") == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"entries": [MANUAL["entries"][0], {"account": "1122.01", "credit_minor": 499}]}, "entries"),
        ({"entries": [MANUAL["entries"][0], {"account": "1122", "credit_minor": 500}]}, "entries.1.account"),
        ({"entries": [MANUAL["entries"][0], {"account": "1122.01"}]}, "entries.1"),
        ({"entries": [MANUAL["entries"][0], {"account": "1122.01", "credit_minor": -1}]}, "entries.1.credit_minor"),
        ({"entries": [MANUAL["entries"][0], {"account": "1122.01", "credit_minor": 10**12 + 1}]}, "entries.1.credit_minor"),
        ({"dated": "2027-01-01"}, "dated"),
        ({"currency": "yuan"}, "currency"),
        ({"reason": ""}, "reason"),
        ({"summary": "退张先生 138 0013 8000 运费"}, "summary"),
    ],
)
async def test_a_voucher_by_hand_that_cannot_be_is_refused_by_name(
    http: httpx.AsyncClient, engine: AsyncEngine, change: dict[str, Any], field: str
) -> None:
    answer = await http.post("/v1/vouchers", json=MANUAL | change)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await rows_of(engine, "SELECT 1 FROM voucher") == []


async def test_the_greatest_voucher_by_hand_is_posted(http: httpx.AsyncClient, engine: AsyncEngine) -> None:
    """Fails when the bounds let more in than `voucher.posted` can say: the answer would be a 500."""
    entries = [{"account": "1012", "debit_minor": 10**12}, {"account": "1122.01", "credit_minor": 10**12}] * 100
    answer = await http.post("/v1/vouchers", json=MANUAL | {"entries": entries})
    assert (answer.status_code, answer.json()["total_minor"]) == (201, 10**14)
    assert await nonzero(engine) == {"1012": 10**14, "1122.01": -(10**14)}


async def test_a_voucher_by_hand_knows_the_chart_that_holds_when_it_is_posted(
    http: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    """Fails when the chart is read before it is kept as it is: the account would be gone, and the answer a 500."""
    async with engine.begin() as connection:
        await setup.take_gate(connection)
        posting = asyncio.create_task(http.post("/v1/vouchers", json=MANUAL))
        await waiting_for_a_lock(engine)
        chart = await setup.get_chart(connection)
        accounts = [account for code, account in chart.accounts.items() if code != "1012"]
        await setup.add_chart(connection, accounts, version=chart.version + 1, now=chart.created_at, who="mei")
    answer = await posting
    assert answer.status_code == 422, answer.text
    assert [error["code"] for error in answer.json()["errors"]] == ["account_not_postable"]


async def test_receivables_are_aged_by_the_day_of_payment(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a refund is aged by its own day, or folding changes the report."""
    old, new = Story(at="2026-10-20T04:00:00Z"), Story(at="2026-11-20T04:00:00Z", channel="jd")
    refund = old.refunded(1, (1, 1000, 1000, 115))
    await harness.receive([*old.all, new.received, refund])
    query = {"as_of": "2026-11-24"}
    report = (await http.get("/v1/receivables", params=query)).json()["items"]
    owed = {row["key"]: (row["owed_minor"], row["up_to_7_days_minor"], row["up_to_90_days_minor"]) for row in report}
    assert owed == {"taobao": (29187, 0, 29187), "jd": (30187, 30187, 0)}
    async with harness.runtime.work() as work:
        await numbering.fold_balances(work.connection, limit=1000)
    assert (await http.get("/v1/receivables", params=query)).json()["items"] == report
    by_account = (await http.get("/v1/receivables", params=query | {"by": "account", "limit": "1"})).json()
    assert (by_account["items"][0]["key"], by_account["next"] is not None) == ("1122.01", True)


async def test_profit_shows_what_was_given_back(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a refund of delivered goods leaves the profit as it was, or counts in the estimate as well."""
    story = Story()
    await harness.receive([*story.all, story.refunded(1, *WHOLE), story.returned(1, (0, 2, "bad"), (1, 1, "good"))])
    (row,) = (await http.get("/v1/profit", params={"by": "channel"})).json()["items"]
    done = row["recognised"]
    assert (done["revenue_minor"], done["refunds_minor"], done["cost_minor"], done["returned_cost_minor"]) == (
        26772, 26772, 13900, 13900,
    )  # fmt: skip
    assert (done["write_off_minor"], done["profit_minor"]) == (8680, -8680 - 1350)
    assert (row["estimated"]["revenue_minor"], row["estimated"]["cost_minor"]) == (0, 0)


async def test_lists_come_as_csv_and_no_cell_is_a_formula(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a text from outside reaches a spreadsheet as a formula."""
    await harness.receive([Story(shop_id="=1+1").received])
    answer = await http.get("/v1/vouchers", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    lines = answer.text.removeprefix("\ufeff").splitlines()
    assert len(lines) == 1 + 4
    assert ",'=1+1," in lines[1]
    unknown = Story().returned(1, (0, 1, "soiled"))
    await harness.receive([unknown])
    for path, head in {
        "/v1/trial-balance": "account,account_name,english,type,direction,currency,opening_minor",
        "/v1/periods": "period,state,vouchers",
        "/v1/flags": "flag_id,code,text,params,event_id",
    }.items():
        table = await http.get(path, params={"format": "csv"})
        assert table.text.removeprefix("\ufeff").splitlines()[0].startswith(head)
        assert table.headers["content-type"] == "text/csv; charset=utf-8"
    accepted = await http.get("/v1/profit", params={"by": "shop"}, headers={"Accept": "text/csv"})
    assert accepted.text.splitlines()[0].startswith("\ufeffkey,currency,recognised.quantity")


async def test_accounts_are_summed_up_to_a_level(harness: Harness, http: httpx.AsyncClient) -> None:
    await harness.receive(Story().all)
    report = (await http.get("/v1/trial-balance", params={"level": "1"})).json()
    closing = {row["account"]: row["closing_minor"] for row in report["accounts"]}
    assert (closing["1122"], closing["2221"]) == (30187, 3415)
    assert report["totals"][0]["closing_difference_minor"] == 0


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/vouchers?min_total_minor=2&max_total_minor=1", "min_total_minor"),
        ("/v1/vouchers?max_total_minor=-1", "max_total_minor"),
        ("/v1/vouchers?format=xls", "format"),
        ("/v1/vouchers?channel=Tao", "channel"),
        ("/v1/vouchers?q=", "q"),
        ("/v1/receivables?by=weather", "by"),
        ("/v1/receivables?as_of=yesterday", "as_of"),
        ("/v1/trial-balance?level=9", "level"),
        ("/v1/orders/x/accounts", "order_id"),
    ],
)
async def test_a_wrong_question_is_refused_by_name(http: httpx.AsyncClient, path: str, field: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 422, answer.text
    assert [error["field"].rpartition(".")[2] for error in answer.json()["errors"]] == [field]


async def test_an_order_that_is_not_in_the_books_is_not_found(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/v1/orders/{uuid4()}/accounts")
    assert (answer.status_code, answer.json()["code"]) == (404, "order_not_posted")
