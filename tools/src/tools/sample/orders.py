"""Orders as six channels would send them, in the canonical form of `ChannelOrder`. Same seed, same orders."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.sample.goods import GOODS, Good
from tools.sample.places import DISTRICTS, PLACES

CHANNELS: tuple[tuple[str, str], ...] = (
    ("taobao", "tb-flagship"),
    ("jd", "jd-pop-1001"),
    ("pdd", "pdd-mall-77"),
    ("douyin", "dy-live-5"),
    ("wechat_shop", "wx-mini"),
    ("pos", "pos-retail"),
)
OVER_HTTP = frozenset({"taobao", "wechat_shop", "pos"})
"""The others come by Kafka, on `channel.orders`."""
_MASKING = frozenset({"taobao", "jd", "pdd", "douyin"})
_METHODS = {
    "taobao": "alipay",
    "jd": "jd_pay",
    "pdd": "wechat_pay",
    "douyin": "douyin_pay",
    "wechat_shop": "wechat_pay",
    "pos": "cash",
}
_SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高欧阳"
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华建国文玉兰志新晓雪梅晨宇轩涵"
_BUYER_NOTES = ("", "", "", "", "请发顺丰", "周末送货", "不要打电话", "麻烦包装好一点，送人的", "尽快发货，谢谢")


class OrderMaker:
    """Makes orders one by one, numbered from 1: two makers with equal seeds make equal orders. `lines` are drawn from."""

    def __init__(
        self,
        seed: int,
        *,
        now: datetime,
        run: str = "D",
        goods: tuple[Good, ...] = GOODS,
        lines: tuple[int, ...] = (1, 1, 1, 2, 2, 3),
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311  sample data
        self._now = now
        self._run = run
        self._goods = goods
        self._lines = lines
        self._serial = 0

    def order(self, channel: str | None = None, **changes: Any) -> dict[str, Any]:
        """One good order of the given or a drawn channel, with `changes` laid over its fields."""
        draw = self._random
        self._serial += 1
        name, shop = next(pair for pair in CHANNELS if pair[0] == channel) if channel else draw.choice(CHANNELS[:5])
        modified_at = self._now - timedelta(seconds=draw.randrange(30, 3000))
        lines = [self._line(number, name) for number in range(1, draw.choice(self._lines) + 1)]
        freight_minor = 0 if name in {"pdd", "pos"} or draw.random() < 0.6 else draw.choice((600, 800, 1000, 1200))
        paid_minor = sum(line["paid_minor"] for line in lines) + freight_minor
        order: dict[str, Any] = {
            "channel": name,
            "shop_id": shop,
            "channel_order_no": f"{self._run}{self._serial:09d}",
            "source_version": int(modified_at.timestamp() * 1000),
            "source_modified_at": _text(modified_at),
            "placed_at": _text(modified_at - timedelta(seconds=95)),
            "paid_at": _text(modified_at - timedelta(seconds=60)),
            "lines": lines,
            "freight_list_minor": freight_minor,
            "paid_minor": paid_minor,
            "payments": [{"method": _METHODS[name], "amount_minor": paid_minor, "paid_at": _text(modified_at)}],
            "buyer": {"buyer_id": f"{name}-buyer-{draw.randrange(10**8):08d}"},
        }
        if name == "pos":
            order |= self._handed_over(modified_at)
        else:
            order["receiver"] = self.receiver(masked=name in _MASKING)
            order["notes"] = {"buyer_note": draw.choice(_BUYER_NOTES)}
        return order | changes

    def line(self, good: Good, quantity: int = 1, *, number: int = 1) -> dict[str, Any]:
        """A line of one good at its list price."""
        return {
            "channel_line_id": str(number),
            "sku_id": good.sku_id,
            "title": good.name,
            "quantity": quantity,
            "unit_list_price_minor": good.list_price_minor,
            "paid_minor": good.list_price_minor * quantity,
        }

    def receiver(self, *, masked: bool = False) -> dict[str, Any]:
        """A receiver in one of the districts; masked as the big platforms do, with the handle they give instead."""
        draw = self._random
        place = draw.choice(DISTRICTS)
        house = f"{draw.randrange(1, 900)} 号 {draw.randrange(1, 30)} 栋 {draw.randrange(101, 2999)} 室"
        street = f"{draw.choice(place.streets)} {house}"
        surname, given = draw.choice(_SURNAMES), "".join(draw.sample(_GIVEN, draw.choice((1, 2, 2))))
        phone = f"1{draw.choice(('38', '39', '50', '58', '86', '99'))}{draw.randrange(10**8):08d}"
        receiver = {
            "name": f"{surname}**" if masked else surname + given,
            "phone": f"*******{phone[-4:]}" if masked else phone,
            "province": place.province,
            "city": place.city,
            "district": place.district,
            "street": f"{street[:4]}****" if masked else street,
        }
        return receiver | {"handle": f"oaid-{draw.getrandbits(96):024x}"} if masked else receiver

    def _line(self, number: int, channel: str) -> dict[str, Any]:
        draw = self._random
        good, quantity = draw.choice(self._goods), draw.choice((1, 1, 1, 1, 2, 3))
        line = self.line(good, quantity, number=number)
        gross = line["paid_minor"]
        discounts = []
        if draw.random() < 0.5:
            discounts.append({"payer": "shop", "amount_minor": gross * draw.choice((5, 8, 10, 15)) // 100, "name": "店铺满减"})
        if channel in {"taobao", "jd", "pdd", "douyin"} and draw.random() < 0.35:
            discounts.append({"payer": "platform", "amount_minor": gross * draw.choice((2, 3, 5)) // 100, "name": "平台补贴"})
        if discounts:
            line["discounts"] = discounts
            line["paid_minor"] = gross - sum(share["amount_minor"] for share in discounts)
        return line

    def _handed_over(self, at: datetime) -> dict[str, Any]:
        store = self._random.choice([place for place in PLACES if place.kind == "store"])
        return {
            "collection": "direct",
            "trade_state": "finished",
            "fulfilment": {"kind": "already_handed_over", "place_id": store.place_id, "handed_over_at": _text(at)},
        }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
