"""The books over HTTP: vouchers, trial balance, profit, chain, set-up; what is refused, and to whom."""

import threading
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from eventing.testing import Harness
from ledger.api import books as ledger_books
from ledger.domain.chain import Break, Verifier
from ledger.handlers import Folder
from webapi.routing import routes_without_role
from webapi.testing import as_caller

from .conftest import Story

REASON = {"reason": "月末结账"}
PAID = {
    "reason": "换科目",
    "name": "收款",
    "lines": [
        {"account": "1012", "side": "debit", "amount": "receivable"},
        {"account": "2204", "side": "credit", "amount": "net_of_tax", "per": "line"},
        {"account": "2221.07", "side": "credit", "amount": "tax"},
    ],
}


async def get(http: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def tamper(engine: AsyncEngine, table: str, statement: str) -> None:
    """What only the tables' owner can do, on purpose."""
    async with engine.begin() as connection:
        await connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        await connection.execute(text(statement))
        await connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


async def test_vouchers_are_found_by_what_people_ask_for(harness: Harness, http: httpx.AsyncClient) -> None:
    october, november = Story(), Story(at="2026-11-02T03:00:00Z", collection="cash_on_delivery")
    await harness.receive([*october.all, *november.all])

    async def found(**query: Any) -> list[tuple[str, str, int]]:
        items = (await get(http, "/v1/vouchers", **query))["items"]
        return [(item["template"], item["period"], item["number"]) for item in items]

    assert len(await found()) == 6
    assert await found(order_id=str(october.order_id), sort="number") == [
        ("paid", "2026-10", 1), ("shipped", "2026-10", 2), ("delivered", "2026-10", 3),
    ]  # fmt: skip
    assert await found(template="paid") == [("paid", "2026-11", 1), ("paid", "2026-10", 1)]
    assert await found(account="1122.03") == [("paid", "2026-11", 1)]
    assert len(await found(account="1122")) == 2
    assert len(await found(period="2026-11")) == len(await found(**{"from": "2026-11-02"})) == 3
    assert len(await found(to="2026-10-23")) == 3
    assert await found(word="转") == []


async def test_one_voucher_shows_its_entries(harness: Harness, http: httpx.AsyncClient) -> None:
    (event, *_) = (await harness.receive([Story().received])).emitted
    voucher = await get(http, f"/v1/vouchers/{event.model_dump()['voucher_id']}")
    assert (voucher["word"], voucher["number"], voucher["posted_on"], voucher["total_minor"]) == ("记", 1, "2026-10-23", 30187)
    assert voucher["entries"][1] == {
        "account": "1122.02", "account_name": "应收账款-平台补贴", "debit_minor": 2397, "credit_minor": 0,
        "origin_order_id": None, "origin_line": None,
    }  # fmt: skip
    missing = await http.get("/v1/vouchers/00000000-0000-0000-0000-000000000000", headers={"Accept-Language": "zh"})
    assert (missing.status_code, missing.json()["code"], missing.json()["title"]) == (404, "voucher_not_found", "没有这张凭证")


async def test_paging_shows_every_voucher_once(harness: Harness, http: httpx.AsyncClient) -> None:
    await harness.receive([event for at in ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z") for event in Story(at=at).all])
    seen, query = [], {"limit": "4"}
    while True:
        page = await get(http, "/v1/vouchers", **query)
        seen += [(item["period"], item["number"]) for item in page["items"]]
        if page["next"] is None:
            break
        query["next"] = page["next"]
    assert seen == [("2026-11", 3), ("2026-11", 2), ("2026-11", 1), ("2026-10", 3), ("2026-10", 2), ("2026-10", 1)]


async def test_the_trial_balance_is_the_same_before_and_after_folding(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when folding loses or doubles a delta, or a report reads only one of the two."""
    await harness.receive([event for at in ("2026-10-23T00:00:00Z", "2026-11-02T00:00:00Z") for event in Story(at=at).all])
    queries = [{}, {"period": "2026-11"}, {"period": "2026-10"}, {"as_of": "2026-10-23"}, {"as_of": "2026-11-01"}]
    for day, month in (("2026-10-31", "2026-10"), ("2026-11-24", "2026-11"), ("9999-12-31", "9999-12")):
        last, whole = [
            (await get(http, "/v1/trial-balance", **query))["accounts"] for query in ({"as_of": day}, {"period": month})
        ]
        assert last == whole
    before = [await get(http, "/v1/trial-balance", **query) for query in queries]
    await fold(harness)
    assert [await get(http, "/v1/trial-balance", **query) for query in queries] == before
    whole, november, october, that_day, day_before = before
    for report in before:
        for total in report["totals"]:
            assert (total["difference_minor"], total["closing_difference_minor"]) == (0, 0)
    revenue = [next(a for a in report["accounts"] if a["account"] == "6001") for report in before]
    assert [(a["opening_minor"], a["debit_minor"], a["credit_minor"], a["closing_minor"]) for a in revenue] == [
        (0, 0, 53544, 53544), (26772, 0, 26772, 53544), (0, 0, 26772, 26772), (0, 0, 26772, 26772), (26772, 0, 0, 26772),
    ]  # fmt: skip
    assert (whole["period"], that_day["period"], day_before["period"]) == (None, "2026-10", "2026-11")
    assert next(a for a in november["accounts"] if a["account"] == "1405.01")["closing_minor"] == -27800
    assert october["totals"][0]["debit_minor"] == 30187 + 15250 + 44087


async def test_folding_adds_to_what_was_folded_before(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a fold replaces the balance of an account."""
    for _ in range(3):
        await harness.receive(Story().all)
        await fold(harness)
    report = await get(http, "/v1/trial-balance")
    assert report["totals"][0]["debit_minor"] == report["totals"][0]["credit_minor"] == 3 * (30187 + 15250 + 44087)


async def fold(harness: Harness) -> None:
    async with harness.runtime.work() as work:
        Folder("main", every_seconds=1, rows=100).schedule(work)
    harness.clock.advance(seconds=2)
    assert await harness.run_due_tasks("fold_balances") == 1
    async with harness.runtime.engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM balance_delta")) == 0


async def test_profit_keeps_recognised_and_estimated_apart(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when what is delivered is still estimated, or what is only paid is recognised."""
    done, shipped, paid = Story(), Story(channel="jd", shop_id="自营店"), Story(channel="jd", shop_id="自营店")
    await harness.receive([*done.all, shipped.received, shipped.shipped, paid.received])
    by_channel = {item["key"]: item for item in (await get(http, "/v1/profit"))["items"]}
    nothing = {"quantity": 0, "revenue_minor": 0, "cost_minor": 0, "freight_minor": 0, "profit_minor": 0}
    undone = {"refunds_minor": 0, "gift_cost_minor": 0, "returned_cost_minor": 0, "write_off_minor": 0}
    assert by_channel["taobao"]["recognised"] == undone | {
        "quantity": 3, "revenue_minor": 26772, "cost_minor": 13900, "freight_minor": 1350, "profit_minor": 11522,
    }  # fmt: skip
    assert by_channel["taobao"]["estimated"] == nothing | {"revenue_without_cost_minor": 0}
    assert by_channel["jd"]["recognised"] == nothing | undone
    assert by_channel["jd"]["estimated"] == {
        "quantity": 6, "revenue_minor": 53544, "cost_minor": 13900, "freight_minor": 1350, "profit_minor": 38294,
        "revenue_without_cost_minor": 26772,
    }  # fmt: skip
    for by, keys in {
        "shop": {"taobao/flagship", "jd/自营店"},
        "sku": {"DRESS01-RED-M", "SOCK02-WHT", "(freight)"},
        "order": {str(story.order_id) for story in (done, shipped, paid)},
        "day": {"2026-10-23"},
    }.items():
        items = (await get(http, "/v1/profit", by=by))["items"]
        assert {item["key"] for item in items} == keys
        for part in ("recognised", "estimated"):
            for field in by_channel["jd"][part]:
                assert sum(i[part][field] for i in items) == sum(i[part][field] for i in by_channel.values()), (by, field)


async def test_profit_of_a_month_ends_its_estimate_where_the_delivery_is_recognised(
    harness: Harness, http: httpx.AsyncClient
) -> None:
    """Fails when the estimate is dated by the delivery: April would begin with a negative one."""
    story = Story(at="2026-10-31T15:00:00Z")
    late = story.delivered.model_copy(update={"occurred_at": Story(at="2026-11-03T00:00:00Z").delivered.occurred_at})
    await harness.receive([story.received, story.shipped, late])
    october = (await get(http, "/v1/profit", by="day", to="2026-10-31"))["items"]
    november = (await get(http, "/v1/profit", by="day", **{"from": "2026-11-01"}))["items"]
    assert [(i["key"], i["recognised"]["revenue_minor"], i["estimated"]["revenue_minor"]) for i in october + november] == [
        ("2026-10-31", 0, 0),
        ("2026-11-03", 26772, 0),
    ]
    assert november[0]["recognised"]["freight_minor"] == 1350


async def test_a_parcel_recognised_in_two_months_brings_its_freight_in_the_first(
    harness: Harness, http: httpx.AsyncClient
) -> None:
    """Fails when each month that sees some of a parcel counts its freight."""
    story, later = Story(at="2026-10-31T00:00:00Z"), Story(at="2026-11-03T00:00:00Z")
    delivered = story.delivered.model_copy(update={"occurred_at": later.delivered.occurred_at})
    await harness.receive([story.received, story.shipped, story.confirmed(1, (1, "DRESS01-RED-M", 2))])
    await harness.receive([delivered])
    months = [{"to": "2026-10-31"}, {"from": "2026-11-01"}, {}]
    told = [(await get(http, "/v1/profit", **month))["items"][0]["recognised"] for month in months]
    assert [(one["quantity"], one["freight_minor"]) for one in told] == [(2, 1350), (1, 0), (3, 1350)]


async def test_profit_is_paged_and_filtered(harness: Harness, http: httpx.AsyncClient) -> None:
    stories = [Story(channel=channel) for channel in ("jd", "pdd", "taobao")]
    await harness.receive([event for story in stories for event in story.all])
    first = await get(http, "/v1/profit", limit=2)
    second = await get(http, "/v1/profit", limit=2, next=first["next"])
    assert [item["key"] for item in first["items"] + second["items"]] == ["jd", "pdd", "taobao"]
    assert second["next"] is None
    (one,) = (await get(http, "/v1/profit", by="day", order_id=str(stories[0].order_id)))["items"]
    assert one["recognised"]["revenue_minor"] == 26772
    assert [i["key"] for i in (await get(http, "/v1/profit", by="sku", channel="jd", sku_id="SOCK02-WHT"))["items"]] == [
        "SOCK02-WHT"
    ]


async def test_the_chain_holds_and_can_be_checked_in_pieces(harness: Harness, http: httpx.AsyncClient) -> None:
    for at in ("2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z", "2026-11-01T00:00:00Z"):
        await harness.receive(Story(at=at).all)
    whole = await get(http, "/v1/chain/verify")
    assert (whole["holds"], whole["vouchers_checked"], whole["next"]) == (True, 9, None)
    assert (await get(http, "/v1/chain/verify", period="2026-11"))["vouchers_checked"] == 3


@pytest.mark.parametrize(
    ("table", "change", "code"),
    [
        (
            "posting",
            "UPDATE posting SET debit_minor = 1 WHERE debit_minor = 13900",
            "voucher_changed",
        ),
        ("voucher", "UPDATE voucher SET shop_id = 'other' WHERE template = 'shipped'", "voucher_changed"),
        ("voucher_number", "DELETE FROM voucher_number WHERE number = 2", "voucher_missing"),
        ("chain_link", "UPDATE chain_link SET hash = digest WHERE first_number = 2", "link_changed"),
    ],
)
async def test_a_changed_voucher_is_named(
    harness: Harness, http: httpx.AsyncClient, engine: AsyncEngine, table: str, change: str, code: str
) -> None:
    """Fails when the hash leaves out what was changed, or verify trusts the stored hash."""
    for event in Story().all:
        await harness.receive([event])
    await tamper(engine, table, change)
    answer = await get(http, "/v1/chain/verify")
    assert answer["holds"] is False
    assert (answer["first_break"]["code"], answer["first_break"]["link_no"]) == (code, 2)
    if code == "voucher_changed":
        voucher = await get(http, f"/v1/vouchers/{answer['first_break']['voucher_id']}")
        assert (voucher["template"], voucher["number"], answer["first_break"]["number"]) == ("shipped", 2, 2)


async def test_a_long_chain_is_checked_over_several_calls(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a call does not go on from the link where the last one stopped, or a batch makes more than one link."""
    for _ in range(20):
        await harness.receive(Story().all)
    checked = links = calls = 0
    query = {"vouchers": "1"}
    while True:
        answer = await get(http, "/v1/chain/verify", **query)
        assert answer["holds"] is True
        checked, links, calls = checked + answer["vouchers_checked"], links + answer["links_checked"], calls + 1
        if answer["next"] is None:
            break
        assert calls < 20
        query["next"] = answer["next"]
    assert (checked, links) == (60, 20)
    assert calls > 1


async def test_a_check_of_the_chain_leaves_room_for_others(
    harness: Harness, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when hashes are computed on the loop: one call would hold up every batch of its process for seconds."""
    await harness.receive(Story().all)
    threads = set()

    class Watched(Verifier):
        def check_link(self, *given: Any) -> Break | None:
            threads.add(threading.get_ident())
            return super().check_link(*given)

    monkeypatch.setattr(ledger_books, "Verifier", Watched)
    assert (await get(http, "/v1/chain/verify"))["holds"] is True
    assert threads
    assert threading.get_ident() not in threads


async def test_what_comes_after_the_close_is_posted_to_the_open_period(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a closed period still takes vouchers, or the origin date is lost."""
    await harness.receive(Story().all)
    answer = await http.post("/v1/periods/2026-10/close", json=REASON)
    assert answer.json()["first_open_period"] == "2026-11"
    (late,) = (await harness.receive([Story(at="2026-09-30T10:00:00Z").received])).emitted
    voucher = await get(http, f"/v1/vouchers/{late.model_dump()['voucher_id']}")
    assert (voucher["period"], voucher["posted_on"], voucher["occurred_on"]) == ("2026-11", "2026-11-01", "2026-09-30")
    again = await http.post("/v1/periods/2026-10/close", json=REASON)
    assert (again.status_code, again.json()["code"]) == (409, "period_already_closed")
    opened = await http.post("/v1/periods/2026-10/open", json=REASON)
    assert opened.json()["first_open_period"] is None
    assert [(p["period"], p["state"], p["vouchers"]) for p in opened.json()["items"]] == [
        ("2026-11", "open", 1),
        ("2026-10", "open", 3),
    ]
    acts = await get(http, "/v1/operations/acts")
    assert {(act["who"], act["act"], act["why"]) for act in acts["items"]} == {
        ("mei", "close_period", "月末结账"), ("mei", "open_period", "月末结账"),
    }  # fmt: skip


@pytest.mark.parametrize("at", ["2026-12-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_what_is_dated_ahead_is_booked_on_the_day_it_was_told(harness: Harness, http: httpx.AsyncClient, at: str) -> None:
    """Fails when a wrong clock opens a period that nobody can close, or a day outside the calendar parks the order."""
    story = Story()
    delivered = story.delivered.model_copy(update={"occurred_at": datetime.fromisoformat(at)})
    result = await harness.receive([story.received, story.shipped, delivered])
    assert result.parked == []
    voucher = (await get(http, "/v1/vouchers", template="delivered"))["items"][0]
    assert (voucher["period"], voucher["posted_on"], voucher["occurred_on"]) == ("2026-11", "2026-11-24", "2026-11-24")


async def test_periods_close_forward_and_open_backward(harness: Harness, http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/periods/2026-01/open", json=REASON)).json()["code"] == "period_not_closed"
    assert (await http.post("/v1/periods/2999-01/close", json=REASON)).json()["code"] == "period_in_the_future"
    for period in ("2025-12", "2026-01"):
        assert (await http.post(f"/v1/periods/{period}/close", json=REASON)).status_code == 200
    refused = await http.post("/v1/periods/2025-12/open", json=REASON)
    assert (refused.status_code, refused.json()["code"]) == (409, "later_period_closed")
    assert "2026-01" in refused.json()["detail"]
    assert (await http.post("/v1/periods/2026-13/close", json=REASON)).status_code == 422


async def test_a_new_template_posts_what_happens_from_then_on(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when templates are cached for ever, or a version in waiting is used early."""
    await harness.receive([Story().received])
    later = (harness.clock.now() + timedelta(seconds=60)).isoformat()
    answer = await http.put("/v1/templates/paid", json=PAID | {"word": "收", "valid_from": later})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    (early,) = (await harness.receive([Story().received])).emitted
    harness.clock.advance(seconds=120)
    (new,) = (await harness.receive([Story().received])).emitted
    assert (early.model_dump()["word"], new.model_dump()["word"], new.model_dump()["number"]) == ("记", "收", 1)
    voucher = await get(http, f"/v1/vouchers/{new.model_dump()['voucher_id']}")
    assert [(e["account"], e["origin_line"]) for e in voucher["entries"]] == [
        ("1012", None), ("2204", 1), ("2204", 2), ("2204", 0), ("2221.07", None),
    ]  # fmt: skip
    assert [t["version"] for t in (await get(http, "/v1/templates/paid"))["items"]] == [2, 1]
    assert (await get(http, "/v1/chain/verify"))["holds"] is True


UNBALANCED = PAID | {"lines": PAID["lines"][:2]}
WRONG_TEMPLATES: list[tuple[dict[str, Any], str, str]] = [
    (UNBALANCED, "lines", "unbalanced_template"),
    (PAID | {"lines": [PAID["lines"][0] | {"account": "1122"}, PAID["lines"][1]]}, "lines.0.account", "account_not_postable"),
    (PAID | {"lines": [PAID["lines"][0] | {"amount": "cost"}, PAID["lines"][1]]}, "lines.0.amount", "term_not_known"),
    (PAID | {"valid_from": "2020-01-01T00:00:00Z"}, "valid_from", "valid_from_in_the_past"),
    (PAID | {"lines": [PAID["lines"][0] | {"side": "left"}, PAID["lines"][1]]}, "lines.0.side", "not_a_choice"),
    (PAID | {"colour": "red"}, "colour", "field_unknown"),
    ({key: value for key, value in PAID.items() if key != "reason"}, "reason", "field_missing"),
]


@pytest.mark.parametrize(("body", "field", "code"), WRONG_TEMPLATES)
async def test_a_template_that_cannot_be_is_refused_by_name(
    http: httpx.AsyncClient, body: dict[str, Any], field: str, code: str
) -> None:
    """Fails when a template is stored that does not balance for every amount."""
    answer = await http.put("/v1/templates/paid", json=body)
    assert answer.status_code == 422
    assert {(error["field"], error["code"]) for error in answer.json()["errors"]} == {(field, code)}
    assert [t["version"] for t in (await get(http, "/v1/templates/paid"))["items"]] == [1]


async def test_the_refusal_of_an_unbalanced_template_says_by_how_much(http: httpx.AsyncClient) -> None:
    answer = await http.put("/v1/templates/paid", json=UNBALANCED)
    reasons = [error["reason"] for error in answer.json()["errors"]]
    assert len(reasons) == 4
    assert "platform_escrow" in reasons[0]
    assert reasons[0].endswith("debits minus credits is tax.")
    assert (await http.put("/v1/templates/gifted", json=PAID)).status_code == 404


async def test_the_chart_grows_but_keeps_what_is_in_use(harness: Harness, http: httpx.AsyncClient) -> None:
    await harness.receive([Story().received])
    chart = await get(http, "/v1/accounts")
    accounts = [{key: value for key, value in account.items() if key != "postable"} for account in chart["accounts"]]
    new = {"code": "1012.01", "name": "微信", "english": "WeChat", "type": "asset", "direction": "debit"}
    orphan = new | {"code": "1013.01"}

    async def put(accounts: list[dict[str, Any]], version: int = 1) -> httpx.Response:
        return await http.put("/v1/accounts", json=REASON | {"replaces_version": version, "accounts": accounts})

    for wrong, code in (
        ([*accounts, new], "account_in_use"),
        ([*accounts, orphan], "account_has_no_parent"),
        ([*accounts, accounts[0]], "account_twice"),
        ([account for account in accounts if account["code"] != "6601.01"], "account_in_use"),
    ):
        answer = await put(wrong)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, code)
    fine = await put([*accounts, new | {"code": "1002"}])
    assert (fine.status_code, fine.json()["version"]) == (200, 2)
    assert (await put(accounts)).status_code == 409


async def test_flags_are_listed_with_their_text(harness: Harness, http: httpx.AsyncClient) -> None:
    event = Story().shipped
    lines = [line.model_copy(update={"unit_cost_minor": None}) for line in event.part.lines]
    await harness.receive([event.model_copy(update={"part": event.part.model_copy(update={"lines": lines})})])
    answer = await http.get("/v1/flags", params={"code": "cost_unknown"}, headers={"Accept-Language": "zh-CN"})
    assert [item["text"] for item in answer.json()["items"]] == ["发货明细缺少成本单价：DRESS01-RED-M, SOCK02-WHT"]


async def test_a_parcel_of_many_goods_without_a_cost_is_posted(harness: Harness, http: httpx.AsyncClient) -> None:
    """Fails when a flag must fit into an index: the order would be parked because of what is said about it."""
    event = Story().shipped
    skus = [f"{number:03d}-{uuid4().hex}" for number in range(500)]
    line = event.part.lines[0].model_copy(update={"unit_cost_minor": None})
    lines = [line.model_copy(update={"sku_id": sku}) for sku in skus]
    result = await harness.receive([event.model_copy(update={"part": event.part.model_copy(update={"lines": lines})})])
    assert (result.parked, len(result.emitted)) == ([], 1)
    [flag] = (await get(http, "/v1/flags"))["items"]
    assert flag["params"] == {"skus": [*skus[:10], "… 490"]}


POLICY = {"reason": "新准则", "recognition": "receipt_confirmed", "damaged_value_bp": 3000}


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        (POLICY | {"recognition": "paid"}, "recognition", "not_a_choice"),
        (POLICY | {"damaged_value_bp": 10_001}, "damaged_value_bp", "out_of_range"),
        (POLICY | {"damaged_value_bp": -1}, "damaged_value_bp", "out_of_range"),
        (POLICY | {"damaged_value_bp": "3000"}, "damaged_value_bp", "not_an_integer"),
        (POLICY | {"damaged_value_bp": 2**70}, "damaged_value_bp", "out_of_range"),
        (POLICY | {"valid_from": "2020-01-01T00:00:00Z"}, "valid_from", "valid_from_in_the_past"),
        (POLICY | {"valid_from": "0001-01-01T00:00:00+14:00"}, "valid_from", "not_a_time"),
        (POLICY | {"valid_from": "9999-12-31T23:59:59-14:00"}, "valid_from", "not_a_time"),
        (POLICY | {"valid_from": "2027-01-01T00:00:00"}, "valid_from", "not_a_time"),
        (POLICY | {"valid_from": 1e300}, "valid_from", "not_a_time"),
        (POLICY | {"book": "other"}, "book", "field_unknown"),
        ([POLICY], "body", "not_an_object"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused_by_name(http: httpx.AsyncClient, body: Any, field: str, code: str) -> None:
    answer = await http.put("/v1/policy", json=body)
    assert answer.status_code == 422, answer.text
    assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == [(field, code)]
    assert [policy["version"] for policy in (await get(http, "/v1/policies"))["items"]] == [0]


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/v1/vouchers", {"period": "2026-13"}, "period"),
        ("/v1/vouchers", {"order_id": "x"}, "order_id"),
        ("/v1/vouchers", {"limit": "0"}, "limit"),
        ("/v1/vouchers", {"next": "abc"}, "next"),
        ("/v1/vouchers", {"from": "2026-11-02", "to": "2026-11-01"}, "from"),
        ("/v1/profit", {"by": "weather"}, "by"),
        ("/v1/profit", {"from": "2026-02-30"}, "from"),
        ("/v1/trial-balance", {"period": "2026-10", "as_of": "2026-11-01"}, "as_of"),
        ("/v1/chain/verify", {"vouchers": "0"}, "vouchers"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(http: httpx.AsyncClient, path: str, query: dict[str, str], field: str) -> None:
    answer = await http.get(path, params=query)
    assert answer.status_code == 422, answer.text
    assert field in [error["field"].rpartition(".")[2] for error in answer.json()["errors"]]


async def test_who_may_do_what(app: FastAPI) -> None:
    assert routes_without_role(app) == []
    chart = {"replaces_version": 1, "accounts": [], **REASON}
    async with as_caller(app, roles=["operator"]) as operator, as_caller(app, roles=["channel"]) as channel:
        assert (await operator.get("/v1/vouchers")).status_code == 200
        assert (await channel.get("/v1/vouchers")).status_code == 403
        for method, path, body in (
            ("PUT", "/v1/templates/paid", PAID),
            ("PUT", "/v1/accounts", chart),
            ("POST", "/v1/periods/2026-01/close", REASON),
            ("POST", "/v1/periods/2026-01/open", REASON),
        ):
            assert (await operator.request(method, path, json=body)).status_code == 403
            assert (await operator.request(method, path, json=body, headers={"X-API-Key": "no"})).status_code == 401
