"""What buyers, channels, operators and places may do at any moment, drawn at random; what is refused is refused.

Each act draws from its own numbers and from what it finds, so that steps before it may be left out and it still means much
the same. All go through the HTTP APIs and `channel.orders`, as outsiders do.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from eventing.broker import Outgoing, TopicPartition
from tools.sample.goods import Good
from tools.sample.orders import OrderMaker
from tools.sample.places import PLACES
from tools.sample.seed import RULES, seed_goods, seed_places

from .services import PowerCut
from .wms import BASE_URL, StepwiseWms
from .world import World

GOODS = (
    Good("PLENTY", "常备商品", "home", 5000, 2000, 300),
    Good("SCARCE", "紧俏商品", "home", 9999, 4000, 500),
    Good("ALONE", "单独发货的商品", "home", 3333, 1000, 9000),
    Good("SPREAD", "分散库存商品", "home", 701, 200, 100),
)
LATE = Good("LATE", "晚上架的商品", "home", 2501, 900, 200)
"""The catalogue does not know it in the beginning."""
SET = Good("SET", "组合商品", "home", 7777, 2400, 700)
SET_PARTS = [{"sku_id": "PLENTY", "quantity": 2}, {"sku_id": "SPREAD", "quantity": 1}]
AUTOMATIC, AT_WMS, BY_HAND, STORE = "WH-HANGZHOU", "WH-GUANGZHOU", "WH-TIANJIN", "ST-SHANGHAI"
STOCK = {
    AUTOMATIC: {"PLENTY": 40, "SCARCE": 1, "ALONE": 6, "SPREAD": 2},
    AT_WMS: {"PLENTY": 6, "SCARCE": 2, "SPREAD": 3},
    BY_HAND: {"PLENTY": 4, "SCARCE": 2, "ALONE": 3, "SPREAD": 2},
    STORE: {"PLENTY": 5, "SCARCE": 1},
}
ANSWERS_AGAIN = ("ingest", "fulfillment")
"""Services that give the same answer to the same Idempotency-Key; inventory's documents go by their references."""
SHOPS = ("plain", "merging", "splitting")
RULE_SET: list[dict[str, Any]] = [
    *(rule for rule in RULES if rule["kind"] in ("address", "quantity")),
    {"rule_id": "merge", "kind": "merge", "wait_minutes": 5, "max_orders": 4, "shop_ids": ["merging"]},
    {"rule_id": "alone", "kind": "split_goods", "skus": ["ALONE"]},
    {"rule_id": "notes", "kind": "buyer_note", "release_after_seconds": 600},
]


async def seed(world: World) -> None:
    """A small retailer: a place of each kind, goods that are plenty, scarce and spread, shops with policies of their own."""
    await seed_places(world.oms, [place for place in PLACES if place.place_id in STOCK])
    await seed_goods(world.oms, GOODS, bundles=False)
    await world.oms.put("inventory", "/v1/items", {"items": [SET.item() | {"bundle_parts": SET_PARTS}]})
    await world.settle()
    for place_id, units in STOCK.items():
        lines = [{"sku_id": sku_id, "quantity": count, "unit_cost_minor": 1500} for sku_id, count in units.items()]
        await world.oms.post(
            "inventory", "/v1/receipts", {"reference": f"first-{place_id}", "place_id": place_id, "lines": lines}
        )
    drives = {AT_WMS: {"connector": "http", "base_url": BASE_URL, "secret_name": "demo"}, BY_HAND: {"connector": "manual"}}
    for place_id, how in drives.items():
        await world.oms.put("fulfillment", f"/v1/places/{place_id}/connector", {"reason": "test", **how})
    await world.oms.put("audit", "/v1/rule-set", {"reason": "test", "rules": RULE_SET})
    await world.oms.put("inventory", "/v1/policies/shortage", _shortage("splitting"))
    await world.settle()


def _shortage(*shops: str) -> dict[str, Any]:
    split = [{"channel": "wechat_shop", "shop_id": shop, "shortage": "split"} for shop in shops]
    return {"reason": "test", "shops": split}


@dataclass(slots=True)
class Crowd:
    """Everybody outside, with what they remember."""

    world: World
    wms: StepwiseWms
    orders: list[dict[str, Any]] = field(default_factory=list)
    """As last sent, by number."""
    receivers: list[dict[str, Any]] = field(default_factory=list)
    meant: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    """What was meant by what nobody can read."""
    count: int = 0

    def reset(self) -> None:
        self.orders.clear()
        self.meant.clear()
        self.count = 0
        self.receivers = [OrderMaker(number, now=self.world.clock.now()).receiver() for number in (1, 2)]

    # Channels

    async def order(self, draw: random.Random) -> None:
        """A new order of a shop, over HTTP or the topic."""
        await self._send(self._new_order(draw), draw)

    def _new_order(self, draw: random.Random) -> dict[str, Any]:
        maker = OrderMaker(draw.getrandbits(30), now=self.world.clock.now(), run=f"{self._next()}N")
        wanted = draw.sample([*GOODS, SET, LATE], draw.choice((1, 1, 2, 2, 3)))
        lines = [
            maker.line(good, draw.choice((1, 1, 2, 3, 5, 25) if good.sku_id == "PLENTY" else (1, 1, 2, 3)), number=number)
            for number, good in enumerate(wanted, 1)
        ]
        freight_minor = draw.choice((0, 0, 799))
        shop = draw.choice(SHOPS)
        fields: dict[str, Any] = {
            "lines": lines,
            "shop_id": shop,
            "freight_list_minor": freight_minor,
            "paid_minor": sum(line["paid_minor"] for line in lines) + freight_minor,
            "payments": [],
            "notes": {"buyer_note": "请包装好"} if draw.random() < 0.1 else {},
            "receiver": draw.choice(self.receivers),
            "buyer": {"buyer_id": "buyer-1"},
        }
        channel, chance = "wechat_shop", draw.random()
        if chance < 0.1:
            fields["fulfilment"] = {"kind": "pick_up", "place_id": STORE}
        elif chance < 0.18:
            at = self.world.clock.now().isoformat()
            fields["fulfilment"] = {"kind": "already_handed_over", "place_id": STORE, "handed_over_at": at}
            channel, fields["trade_state"] = "pos", "finished"
        return maker.order(channel, **fields)

    async def garble(self, draw: random.Random) -> None:
        """Something on `channel.orders` that nobody can take in."""
        order = self._new_order(draw)
        body = json.dumps(order, ensure_ascii=False)
        garbled = draw.choice(
            (
                body[: len(body) // 2],
                json.dumps(order | {"lines": []}),
                json.dumps(order | {"paid_minor": "much"}),
                json.dumps(order | {"buyer": None}),
                body.replace('"lines"', '"shop_id": "twice", "lines"'),
            )
        ).encode()
        self.world.garbled.add(garbled)
        self.meant[garbled] = order
        self.world.publish(Outgoing("channel.orders", b"anything", garbled, []))

    async def send_again(self, draw: random.Random) -> None:
        if self.orders:
            await self._send(draw.choice(self.orders), draw)

    async def send_newer(self, draw: random.Random) -> None:
        """A newer version: fewer units, another price, another receiver, or closed."""
        if not self.orders:
            return
        order = copy.deepcopy(draw.choice(self.orders))
        order["source_version"] += 1000
        line, what = draw.choice(order["lines"]), draw.randrange(4)
        if what == 0 and line["quantity"] > 1:
            price = line["paid_minor"] // line["quantity"]
            line["quantity"] -= 1
            line["paid_minor"] -= price
            order["paid_minor"] -= price
        elif what == 1 and line["paid_minor"] > 100:
            line["adjust_minor"] = line.get("adjust_minor", 0) - 37
            line["paid_minor"] -= 37
            order["paid_minor"] -= 37
        elif what == 2:
            order["receiver"] = draw.choice(self.receivers)
        else:
            order["trade_state"] = "closed_refunded"
        await self._send(order, draw)

    async def _send(self, order: dict[str, Any], draw: random.Random) -> None:
        self._remember(order)
        if draw.random() < 0.5:
            body = json.dumps(order, ensure_ascii=False).encode()
            self.world.publish(Outgoing("channel.orders", str(draw.randrange(9)).encode(), body, []))
        else:
            await self._ask("ingest", "POST", "/v1/orders", {"orders": [order]})

    def _remember(self, order: dict[str, Any]) -> None:
        self.orders = [known for known in self.orders if known["channel_order_no"] != order["channel_order_no"]]
        self.orders.append(order)

    async def cancel(self, draw: random.Random) -> None:
        """Cancel all that is left of an order, or some units of a line."""
        if (order_id := await self._order(draw)) is None:
            return
        body: dict[str, Any] = {"reason": "buyer_asked", "reference": f"C{self._next()}"}
        if draw.random() < 0.6:
            body["lines"] = [{"line": draw.choice((1, 1, 2)), "quantity": draw.choice((1, 1, 2))}]
        await self._ask("ingest", "POST", f"/v1/orders/{order_id}/cancellation", body)

    async def withdraw(self, draw: random.Random) -> None:
        request_id = await self._pick(draw, "ingest", "SELECT request_id FROM request WHERE kind = 'cancel' ORDER BY 1")
        if request_id is not None:
            await self._ask("ingest", "DELETE", f"/v1/cancellations/{request_id}?reason=kept")

    async def change(self, draw: random.Random) -> None:
        if (order_id := await self._order(draw)) is None:
            return
        body: dict[str, Any] = {"reason": "the buyer asked", "reference": f"A{self._next()}"}
        if draw.random() < 0.7:
            body["receiver"] = draw.choice(self.receivers)
        else:
            body["notes"] = {"seller_note": f"备注 {self._next()}"}
        await self._ask("ingest", "POST", f"/v1/orders/{order_id}/changes", body)

    async def refund(self, draw: random.Random) -> None:
        if (order_id := await self._order(draw)) is None:
            return
        body = {
            "refund_id": f"R{self._next()}",
            "amount_minor": draw.choice((1, 500, 2999, 5000)),
            "settled_at": self.world.clock.now().isoformat(),
            "reason": "buyer_asked",
        }
        await self._ask("ingest", "POST", f"/v1/orders/{order_id}/refunds", body)

    async def confirm(self, draw: random.Random) -> None:
        if (order_id := await self._order(draw)) is not None:
            body = {"reference": f"D{self._next()}", "confirmed_at": self.world.clock.now().isoformat()}
            await self._ask("ingest", "POST", f"/v1/orders/{order_id}/receipt", body)

    # Operators

    async def judge(self, draw: random.Random) -> None:
        """Release, reject or hold by hand what audit holds."""
        order_id = await self._pick(draw, "audit", "SELECT order_id FROM order_state WHERE state = 'held' ORDER BY 1")
        if order_id is not None:
            act = draw.choice(("release", "release", "release", "reject", "holds"))
            later = {"undo_seconds": 60} if act != "holds" and draw.random() < 0.2 else {}
            await self._ask("audit", "POST", f"/v1/orders/{order_id}/{act}", {"reason": "test", **later})

    async def undo(self, draw: random.Random) -> None:
        """Take back a release or reject that waits."""
        act_id = await self._pick(draw, "audit", "SELECT act_id FROM deferred_act WHERE state = 'waiting' ORDER BY 1")
        if act_id is not None:
            await self._ask("audit", "POST", f"/v1/acts/{act_id}/undo", {"reason": "test"})

    async def mend(self, draw: random.Random) -> None:
        """An operator tries again, corrects or discards what was parked or quarantined."""
        if draw.random() < 0.3:
            await self._mend_quarantined(draw)
            return
        service = draw.choice(list(self.world.services))
        key = await self._pick(draw, service, "SELECT DISTINCT key FROM parked_key WHERE cause <> 'waiting' ORDER BY 1")
        if key is None:
            return
        # Vouchers go by the id of their event, and the books' checks know of no edit: there it is tried again as it is.
        if draw.random() < 0.3 and service != "ledger":
            await self._edit_parked(service, key)
        await self._ask(service, "POST", f"/v1/operations/parked/{key}/retry", {"reason": "test"})

    async def _edit_parked(self, service: str, key: str) -> None:
        """As it was: a new record of the same content, with the old one as its cause."""
        http = self.world.http(service)
        records = (await http.get(f"/v1/operations/parked/{key}")).json()
        path = f"/v1/operations/parked/{key}/records/{records[0]['id']}"
        raw = await http.get(f"{path}/raw", params={"reason": "test"})
        await self._ask(service, "PUT", path, {"reason": "test", "body": json.loads(raw.content)})

    async def _mend_quarantined(self, draw: random.Random) -> None:
        rows = await self.world.rows(
            "ingest", "SELECT id, partition, record_offset FROM quarantine WHERE wish IS NULL ORDER BY partition, record_offset"
        )
        if not rows:
            return
        record_id, partition, offset = draw.choice(rows)
        path = f"/v1/operations/quarantined/{record_id}"
        if (act := draw.choice(("retry", "discard", "edit"))) != "edit":
            await self._ask("ingest", "POST", f"{path}/{act}", {"reason": "test"})
            return
        order = self.meant[self.world.bus._logs[TopicPartition("channel.orders", partition)][offset].value]
        self._remember(order)
        await self._ask("ingest", "PUT", path, {"reason": "test", "body": order})

    async def rule(self, draw: random.Random) -> None:
        """Rules and policies change in the middle of it all."""
        if draw.random() < 0.5:
            rules = [rule for rule in RULE_SET if draw.random() < 0.7]
            await self._ask("audit", "PUT", "/v1/rule-set", {"reason": "test", "rules": rules})
        else:
            shops = draw.sample(SHOPS, draw.randrange(len(SHOPS)))
            await self._ask("inventory", "PUT", "/v1/policies/shortage", _shortage(*shops))

    async def close_books(self, draw: random.Random) -> None:
        """Close a period, or open it again."""
        period = f"{self.world.clock.now():%Y-%m}"
        await self._ask("ledger", "POST", f"/v1/periods/{period}/{draw.choice(('close', 'open'))}", {"reason": "test"})

    async def list_late(self, draw: random.Random) -> None:
        """The catalogue learns of what was sold before, and some of it comes."""
        await self._ask("inventory", "PUT", "/v1/items", {"items": [LATE.item()]})
        await self._book(draw, "receipts", {"sku_id": LATE.sku_id, "quantity": 3, "unit_cost_minor": 900})

    async def move(self, draw: random.Random) -> None:
        """Goods leave for another place, or arrive there: all, fewer or more."""
        rows = await self.world.rows(
            "inventory",
            "SELECT document_id, sku_id, announced FROM incoming JOIN stock_document USING (document_id)"
            " WHERE kind = 'transfer' AND open ORDER BY document_id, sku_id",
        )
        if rows and draw.random() < 0.6:
            document_id, sku_id, announced = draw.choice(rows)
            received = max(0, announced + draw.choice((0, 0, -1, 1)))
            body = {"reason": "test", "lines": [{"sku_id": sku_id, "received": received}]}
            await self._ask("inventory", "POST", f"/v1/transfers/{document_id}/receipt", body)
            return
        source, target = draw.sample(list(STOCK), 2)
        await self._ask(
            "inventory",
            "POST",
            "/v1/transfers",
            {
                "reason": "test",
                "reference": f"M{self._next()}",
                "from_place_id": source,
                "to_place_id": target,
                "lines": [{"sku_id": draw.choice(GOODS).sku_id, "quantity": draw.choice((1, 2))}],
            },
        )

    async def expect(self, draw: random.Random) -> None:
        """A supplier announces goods, or will not send them after all."""
        rows = await self.world.rows(
            "inventory",
            "SELECT DISTINCT document_id FROM incoming JOIN stock_document USING (document_id)"
            " WHERE kind = 'incoming' ORDER BY document_id",
        )
        if rows and draw.random() < 0.4:
            path = f"/v1/incoming/{draw.choice(rows)[0]}/close"
            await self._ask("inventory", "POST", path, {"reason": "test"})
            return
        due_on = f"{self.world.clock.now() + timedelta(days=draw.choice((1, 5))):%Y-%m-%d}"
        await self._book(draw, "incoming", {"sku_id": draw.choice(GOODS).sku_id, "quantity": 2}, due_on=due_on)

    async def stocktake(self, draw: random.Random) -> None:
        """A place sends its own numbers."""
        body = {
            "reference": f"S{self._next()}",
            "taken_at": self.world.clock.now().isoformat(),
            "lines": [{"sku_id": draw.choice(GOODS).sku_id, "counted": draw.choice((0, 1, 3, 6))}],
        }
        await self._ask("inventory", "PUT", f"/v1/places/{draw.choice(list(STOCK))}/snapshot", body)

    async def receive(self, draw: random.Random) -> None:
        line = {"sku_id": draw.choice(GOODS).sku_id, "quantity": draw.choice((1, 2, 5)), "unit_cost_minor": 1500}
        await self._book(draw, "receipts", line)

    async def count_less(self, draw: random.Random) -> None:
        """A count, a correction or damage that mostly finds fewer than there were."""
        sku_id = draw.choice(GOODS).sku_id
        kind, line = draw.choice(
            (
                ("counts", {"sku_id": sku_id, "counted": draw.choice((0, 1, 2, 4))}),
                ("adjustments", {"sku_id": sku_id, "quantity": draw.choice((-2, -1, 1)), "reason_code": "found"}),
                ("damage", {"sku_id": sku_id, "quantity": 1, "to": draw.choice(("damaged", "damaged", "good", "scrapped"))}),
            )
        )
        await self._book(draw, kind, line, reason="stock-taking")

    async def _book(self, draw: random.Random, kind: str, line: dict[str, Any], **more: str) -> None:
        body = {"reference": f"B{self._next()}", "place_id": draw.choice(list(STOCK)), "lines": [line], **more}
        await self._ask("inventory", "POST", f"/v1/{kind}", body)

    async def pause(self, draw: random.Random) -> None:
        act = draw.choice(("pause", "resume"))
        await self._ask("inventory", "POST", f"/v1/locations/{draw.choice(list(STOCK))}/{act}", {"reason": "test"})

    async def steer(self, draw: random.Random) -> None:
        """Offer a held order anew, force its place, or move it up."""
        wanted = "SELECT order_id FROM stock_order WHERE state IN ('reserved', 'stuck', 'backordered') ORDER BY 1"
        if (order_id := await self._pick(draw, "inventory", wanted)) is not None:
            act, body = draw.choice(
                (
                    ("redrive", {}),
                    ("place", {"place_id": draw.choice(list(STOCK))}),
                    ("priority", {"priority": draw.choice((1, 500))}),
                )
            )
            await self._ask("inventory", "POST", f"/v1/orders/{order_id}/{act}", {"reason": "test", **body})

    # Places

    async def at_place(self, draw: random.Random) -> None:
        """People at a place, or an operator for them, do something with an order that they have."""
        rows = await self.world.rows(
            "fulfillment",
            "SELECT fulfilment_order_id, kind, coalesce(left_json, part_json) FROM fulfilment_order"
            " JOIN fulfilment_content USING (fulfilment_order_id)"
            " WHERE status NOT IN ('closed', 'cancelled') AND (connector = 'manual' OR kind = 'pick_up')"
            " ORDER BY 1",
        )
        if not rows:
            return
        order_id, kind, part = draw.choice(rows)
        line = draw.choice(json.loads(part)["lines"])
        some = [{"sku_id": line["sku_id"], "quantity": 1}]
        acts: tuple[tuple[str, dict[str, Any]], ...] = (
            ("acceptance", {}),
            ("rejection", {"cause": draw.choice(("not_in_stock", "damaged", "mismatch", "too_busy"))}),
            ("short-pick", {"lines": some, "stock_effect": draw.choice(("missing", "nothing_left", "damaged", "none"))}),
            ("shipment", {"parcels": [{"lines": some}], "final": draw.random() < 0.2}),
            ("shipment", {"parcels": [{}]}),
            ("hold", {}),
            ("release", {}),
            ("stop-answer", {"lines": draw.choice(([], some))}),
        )
        act, body = ("handover", {}) if kind == "pick_up" and draw.random() < 0.6 else draw.choice(acts)
        await self._ask("fulfillment", "POST", f"/v1/fulfilment-orders/{order_id}/{act}", {"reason": "test", **body})

    async def at_wms(self, draw: random.Random) -> None:
        if draw.random() < 0.15:
            self.wms.deaf += 1
        if draw.random() < 0.5:
            self.wms.step(draw)
        else:
            await self._surviving("fulfillment", lambda: self.wms.say(self.world, draw))

    async def carry(self, draw: random.Random) -> None:
        """What a carrier reports."""
        shipment_id = await self._pick(draw, "fulfillment", "SELECT shipment_id FROM shipment ORDER BY 1")
        if shipment_id is not None:
            body = {
                "state": draw.choice(("in_transit", "delivered", "delivered", "refused", "lost")),
                "occurred_at": self.world.clock.now().isoformat(),
                "reference": f"E{self._next()}",
                "reason": "test",
            }
            await self._ask("fulfillment", "POST", f"/v1/shipments/{shipment_id}/progress", body)

    async def take_back(self, draw: random.Random) -> None:
        """Goods of a parcel come back."""
        rows = await self.world.rows("fulfillment", "SELECT shipment_id, sku_id FROM shipment_line ORDER BY 1, 2")
        if rows:
            shipment_id, sku_id = draw.choice(rows)
            body = {
                "reference": f"T{self._next()}",
                "shipment_id": str(shipment_id),
                "why": "buyer_return",
                "reason": "test",
                "lines": [{"sku_id": sku_id, draw.choice(("good", "good", "bad", "missing")): 1}],
            }
            await self._ask("fulfillment", "POST", "/v1/returns", body)

    # In the end

    async def go_home(self, draw: random.Random) -> bool:
        """Finish what is begun at the WMS; whether there was something."""
        self.wms.deaf = 0
        return self.wms.step(draw) or await self.wms.say(self.world, draw)

    async def mend_all(self) -> bool:
        """Whatever still lies parked is tried again, and what nobody can read is discarded; whether there was something."""
        found = False
        for service in self.world.services:
            sql = "SELECT DISTINCT key FROM parked_key WHERE cause <> 'waiting' AND wish IS NULL ORDER BY 1"
            for (key,) in await self.world.rows(service, sql):
                await self._ask(service, "POST", f"/v1/operations/parked/{key}/retry", {"reason": "the end"})
                found = True
        for (record_id,) in await self.world.rows("ingest", "SELECT id FROM quarantine WHERE wish IS NULL ORDER BY id"):
            await self._ask("ingest", "POST", f"/v1/operations/quarantined/{record_id}/discard", {"reason": "the end"})
            found = True
        return found

    # Within

    async def _order(self, draw: random.Random) -> str | None:
        return await self._pick(draw, "ingest", "SELECT order_id FROM channel_order ORDER BY 1")

    async def _pick(self, draw: random.Random, service: str, sql: str) -> str | None:
        rows = await self.world.rows(service, sql)
        return str(draw.choice(rows)[0]) if rows else None

    async def _ask(self, service: str, method: str, path: str, body: Any = None) -> None:
        """Whoever gets no answer asks again with the same key."""
        headers = {"Idempotency-Key": f"K{self._next()}"}

        async def ask() -> bool:
            response = await self.world.http(service).request(method, path, json=body, headers=headers)
            if response.status_code >= 500:
                raise AssertionError(f"{method} {path} of {service}: {response.status_code} {response.text[:300]}")
            if response.is_success and service in ANSWERS_AGAIN and self.count % 5 == 0:
                again = await self.world.http(service).request(method, path, json=body, headers=headers)
                if (again.status_code, again.content) != (response.status_code, response.content):
                    raise AssertionError(
                        f"{method} {path} again: {again.status_code} {again.text[:300]}, not {response.text[:300]}"
                    )
            return response.is_success

        await self._surviving(service, ask)

    async def _surviving(self, service: str, ask: Callable[[], Awaitable[bool]]) -> None:
        try:
            await ask()
        except (PowerCut, BaseExceptionGroup) as death:
            if isinstance(death, BaseExceptionGroup) and death.split(PowerCut)[1] is not None:
                raise
            await self.world.services[service].reboot()
            await ask()

    def _next(self) -> int:
        self.count += 1
        return self.count
