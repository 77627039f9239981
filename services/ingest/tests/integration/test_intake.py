"""Taking channel orders in from Kafka: dedup, versions, parking, waking, sealing."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import text

from contracts import CatalogItem, ChangeRequested, ChannelOrder, Event, OrderReceived, ReceiverSealed
from eventing.testing import Harness
from ingest.app import make_gateway, make_tokens
from ingest.domain.identity import order_id_of
from ingest.handlers import WAKE, Handlers
from ingest.intake import Arrival
from ingest.privacy import Envelope, Sealed
from ingest.settings import Settings

Make = Callable[..., ChannelOrder]
Item = Callable[..., CatalogItem]
_WAITING = text(
    """
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
    """
)


def received(events: Sequence[Event]) -> list[OrderReceived]:
    return [event for event in events if isinstance(event, OrderReceived)]


async def stored(harness: Harness) -> list[tuple[str, str, str, int, list[str], int]]:
    async with harness.runtime.work() as work:
        rows = await work.connection.execute(
            text("SELECT channel_order_no, state, code, source_version, flags, step FROM channel_order ORDER BY 1")
        )
        return [tuple(row) for row in rows]


async def test_a_paid_order_goes_out_priced_to_the_fen(harness: Harness, event: Make) -> None:
    """Fails when a share that the platform bears is lost, or tax is not the catalogue's rate inside the receivable."""
    result = await harness.receive([event()])
    sealed, order = result.emitted
    assert isinstance(sealed, ReceiverSealed)
    assert isinstance(order, OrderReceived)
    dress, sock = order.order.lines
    assert (dress.paid_minor, dress.receivable_minor, dress.tax_minor) == (21403, 23800, 2738)
    assert (sock.paid_minor, sock.receivable_minor, sock.tax_minor) == (5990, 5990, 495)
    assert (order.order.freight.paid_minor, order.order.freight.tax_minor) == (1000, 115)
    assert (order.order.paid_minor, order.order.receivable_minor) == (28393, 30790)
    assert [line.quantity for line in order.part.lines] == [2, 1]
    assert order.part.freight[0].receivable_minor == 1000
    assert order.order_id == order.root_id == order_id_of("taobao", "小店", "T-1")
    assert (order.progress.step, order.progress.stage, order.progress.code) == (1, "received", "order_received")
    assert order.order.receiver_ref == sealed.receiver_ref
    assert order.order.notes.keywords == ["wants_carrier", "no_contact"]
    assert order.order.destination is not None
    assert order.order.destination.region_code == "330110"


async def test_nothing_that_leaves_or_is_stored_names_the_receiver(harness: Harness, event: Make) -> None:
    """Fails when a name, phone or street gets into an event or a table in clear."""
    order = event(
        fulfilment={"kind": "to_ship", "pick_up_person": "欧阳小明"},
        lines=[
            {
                "channel_line_id": "1",
                "sku_id": "DRESS",
                "quantity": 1,
                "unit_list_price_minor": 100,
                "discounts": [{"payer": "shop", "amount_minor": 1, "for_phone": "13812345678"}],
            }
        ],
    )
    parked = event("T-2", payment_state="unpaid")
    result = await harness.receive([order, parked])
    texts = [message.model_dump_json() for message in result.emitted]
    async with harness.runtime.work() as work:
        for table in ("channel_order", "order_document", "timeline", "order_stage", "inbox"):
            rows = await work.connection.execute(text(f"SELECT t::text FROM {table} t"))  # noqa: S608
            texts.extend(rows.scalars())
    hexed = [secret.encode().hex() for secret in ("欧阳小明", "13812345678", "文一西路")]
    for told in texts:
        assert not any(secret in told for secret in ("小明", "13812345678", "文一西路", "969 号", "buyer-1", *hexed))


async def test_the_sealed_receiver_opens_with_the_key_and_its_ref(harness: Harness, event: Make) -> None:
    sealed = (await harness.receive([event()])).emitted[0]
    assert isinstance(sealed, ReceiverSealed)
    parts = Sealed(sealed.key_id, sealed.wrapped_key, sealed.nonce, sealed.ciphertext)
    clear = Envelope(base64.b64decode("A" * 43 + "="), "1").open(parts, str(sealed.receiver_ref))
    assert "欧阳小明" in clear.decode()


async def test_one_order_is_sent_once_however_often_it_comes(harness: Harness, event: Make) -> None:
    """Fails when a repeat in the same batch, in a later one, or spelled otherwise gets out a second time."""
    first = await harness.receive([event(), event(), event("T-2")])
    assert len(received(first.emitted)) == 2
    assert first.duplicates == 1
    again = await harness.receive([event()])
    assert (again.emitted, again.duplicates) == ([], 1)
    body = event().model_dump_json(indent=1).encode()
    spelled = await harness.receive_raw("channel.orders", "any", body)
    assert (spelled.emitted, spelled.handled, spelled.quarantined) == ([], 1, [])
    assert [row[5] for row in await stored(harness)] == [1, 1]


async def test_versions_count_by_number_never_by_arrival(harness: Harness, event: Make) -> None:
    """Fails when an older version that comes late takes the order back."""
    await harness.receive([event(source_version=7, payment_state="unpaid")])
    result = await harness.receive([event(source_version=6, payment_state="paid")])
    assert result.emitted == []
    assert await stored(harness) == [("T-1", "parked", "unpaid", 7, [], 1)]


async def test_a_newer_version_replaces_a_parked_one(harness: Harness, event: Make) -> None:
    assert (await harness.receive([event(source_version=1, payment_state="unpaid")])).emitted == []
    sent = received((await harness.receive([event(source_version=2)])).emitted)
    assert [(order.progress.step, order.progress.code) for order in sent] == [(2, "order_received")]
    assert await stored(harness) == [("T-1", "sent", "order_received", 2, [], 2)]


async def test_several_versions_in_one_batch_count_one_after_the_other(harness: Harness, event: Make) -> None:
    """Fails when a batch decides each record as if the ones before it had not been there."""
    batch = [
        event(source_version=1, payment_state="unpaid"),
        event(source_version=3),
        event(source_version=2, trade_state="cancelled"),
        event(source_version=4, notes={}),
    ]
    emitted = (await harness.receive(batch)).emitted
    assert [order.order.source_version for order in received(emitted)] == [3]
    (change,) = [event for event in emitted if isinstance(event, ChangeRequested)]
    assert (change.fields, change.order.source_version, change.progress.step) == (["note"], 4, 4)
    assert await stored(harness) == [("T-1", "sent", "order_received", 4, ["newer_version"], 4)]


async def test_equal_version_with_other_content_is_flagged_and_the_later_counts(harness: Harness, event: Make) -> None:
    await harness.receive([event(payment_state="unpaid")])
    sent = received((await harness.receive([event()])).emitted)
    assert sent[0].order.quality_flags == ["version_conflict"]
    (change,) = (await harness.receive([event(notes={})])).emitted
    assert isinstance(change, ChangeRequested)
    assert await stored(harness) == [("T-1", "sent", "order_received", 100, ["version_conflict"], 4)]


async def test_impossible_orders_are_quarantined_with_field_and_reason(harness: Harness, event: Make) -> None:
    """Fails when one bad order stops the others, or nobody can tell what was wrong with it."""
    line = {"channel_line_id": "1", "sku_id": "DRESS", "quantity": 1, "unit_list_price_minor": 100}
    bad = [
        (event("B-1", lines=[line, {**line, "adjust_minor": -101}]), "impossible_money", "lines.1"),
        (event("B-2", trade_state="half_shipped"), "unknown_value", "trade_state"),
        (event("B-3", fulfilment={"kind": "pick_up"}), "place_missing", "fulfilment.place_id"),
        (event("B-4", placed_at="0001-01-01T00:00:00+14:00"), "time_out_of_range", "placed_at"),
        (event("B-5", lines=[{**line, "title": "长" * 199, "note": "x" * 900}] * 200), "too_large", ""),
    ]
    result = await harness.receive([*(order for order, _, _ in bad), event("GOOD")])
    assert [(fate.code, fate.field) for fate in result.quarantined] == [(code, field) for _, code, field in bad]
    assert [order.order.channel_order_no for order in received(result.emitted)] == ["GOOD"]
    schema = await harness.receive_raw("channel.orders", "k", b'{"channel":"taobao","channel":"jd"}')
    assert len(schema.quarantined) == 1


async def test_a_figure_that_does_not_add_up_is_flagged_never_refused(harness: Harness, event: Make) -> None:
    order = received((await harness.receive([event(paid_minor=28000)])).emitted)[0].order
    assert order.quality_flags == ["money_mismatch", "total_money_mismatch", "payments_mismatch"]
    assert order.paid_minor == 28000 == sum(line.paid_minor for line in order.lines) + order.freight.paid_minor


async def test_orders_wait_for_an_unknown_item_and_wake_when_it_comes(bare: Harness, event: Make, an_item: Item) -> None:
    """Fails when a paid order is refused or forgotten because the catalogue was late, or more than a batch waits."""
    await bare.apply([an_item("SOCK")])
    numbers = [f"T-{number}" for number in range(8)]
    assert (await bare.receive([event(number) for number in numbers])).emitted == []
    assert {row[1:3] for row in await stored(bare)} == {("parked", "unknown_sku")}
    assert (await bare.apply([an_item("OTHER")])).emitted == []
    await bare.apply([an_item("DRESS", weight_grams=420)])
    await bare.run_due_tasks(WAKE)
    sent = received(await bare.emitted())
    assert sorted(order.order.channel_order_no for order in sent) == numbers
    assert {(order.progress.step, order.progress.code) for order in sent} == {(2, "order_unparked")}
    assert {order.order.lines[0].unit_weight_grams for order in sent} == {420}
    async with bare.runtime.work() as work:
        assert (await work.connection.execute(text("SELECT count(*) FROM parked_sku"))).scalar_one() == 0


async def test_an_order_that_lacks_two_items_waits_for_both(bare: Harness, event: Make, an_item: Item) -> None:
    await bare.receive([event()])
    await bare.apply([an_item("DRESS")])
    await bare.run_due_tasks(WAKE)
    assert [row[1:3] for row in await stored(bare)] == [("parked", "unknown_sku")]
    await bare.apply([an_item("SOCK")])
    await bare.run_due_tasks(WAKE)
    assert len(received(await bare.emitted())) == 1


async def until_waiting(harness: Harness, task: asyncio.Task[Any]) -> None:
    """Return when the task waits for a lock of another transaction, or is done without."""
    async with asyncio.timeout(10):
        while not task.done():
            async with harness.runtime.work() as work:
                locks = await work.connection.execute(
                    text("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                )
                if locks.first() is not None:
                    return


async def test_an_item_that_comes_while_its_order_is_being_parked_wakes_it(
    bare: Harness, event: Make, an_item: Item, settings: Settings
) -> None:
    """Fails when the catalogue does not wait for orders that have looked and not found: this one would wait for ever."""
    gateway = make_gateway(settings, make_tokens(settings))
    await bare.apply([an_item("SOCK")])
    arrival = gateway.examine(event())
    assert isinstance(arrival, Arrival)
    async with bare.runtime.work() as work:
        (outcome,) = await gateway.take([arrival], work)
        assert outcome.code == "unknown_sku"
        coming = asyncio.create_task(bare.apply([an_item("DRESS")]))
        await until_waiting(bare, coming)
    await coming
    await bare.run_due_tasks(WAKE)
    assert len(received(await bare.emitted())) == 1


async def test_an_order_that_comes_while_its_item_is_being_stored_finds_it(
    bare: Harness, event: Make, an_item: Item, settings: Settings
) -> None:
    """Fails when an order does not look again once it holds the lock: the item's own look was before the order was there."""
    handlers = Handlers(make_gateway(settings, make_tokens(settings)), wake_batch=3)
    await bare.apply([an_item("SOCK")])
    async with bare.runtime.work() as work:
        await handlers.on_catalog_items([an_item("DRESS")], work)
        coming = asyncio.create_task(bare.receive([event()]))
        await until_waiting(bare, coming)
    assert len(received((await coming).emitted)) == 1


async def test_an_item_keeps_its_highest_version_whatever_the_order(bare: Harness, event: Make, an_item: Item) -> None:
    await bare.apply([an_item("SOCK"), an_item("DRESS", version=3, weight_grams=333), an_item("DRESS", version=2)])
    await bare.apply([an_item("DRESS", version=1, weight_grams=111)])
    assert received((await bare.receive([event()])).emitted)[0].order.lines[0].unit_weight_grams == 333


async def test_a_till_sale_goes_out_without_a_receiver(harness: Harness, event: Make) -> None:
    handed_over = {"kind": "already_handed_over", "place_id": "ST-1", "handed_over_at": "2026-03-01T02:00:00Z"}
    result = await harness.receive([event(trade_state="finished", fulfilment=handed_over, receiver=None)])
    (order,) = received(result.emitted)
    assert len(result.emitted) == 1
    assert (order.order.receiver_ref, order.order.destination) == (None, None)
    assert order.order.fulfilment.place_id == "ST-1"


async def test_what_others_shipped_or_closed_is_recorded_only(harness: Harness, event: Make) -> None:
    result = await harness.receive([event("A", trade_state="shipped"), event("B", trade_state="cancelled")])
    assert result.emitted == []
    assert [row[1:3] for row in await stored(harness)] == [
        ("closed", "externally_fulfilled"),
        ("closed", "closed_by_channel"),
    ]


async def test_an_unknown_field_on_the_topic_is_no_fault(harness: Harness, an_order: Callable[..., dict[str, Any]]) -> None:
    body = ChannelOrder.model_validate(an_order(loyalty_tier="gold")).model_dump_json().encode()
    assert len((await harness.receive_raw("channel.orders", "k", body)).emitted) == 2
