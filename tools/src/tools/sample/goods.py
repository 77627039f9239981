"""The catalogue: SKUs with cost, list price, weight and tax rate, and two bundles."""

from typing import Any, NamedTuple


class Good(NamedTuple):
    sku_id: str
    name: str
    category: str
    list_price_minor: int
    standard_cost_minor: int
    weight_grams: int
    tax_rate_bp: int = 1300

    def item(self) -> dict[str, Any]:
        """As `PUT /v1/items` of inventory takes it."""
        return {
            "sku_id": self.sku_id,
            "name": self.name,
            "category": self.category,
            "weight_grams": self.weight_grams,
            "tax_rate_bp": self.tax_rate_bp,
            "standard_cost_minor": self.standard_cost_minor,
        }


GOODS: tuple[Good, ...] = (
    Good("DRESS01-RED-M", "连衣裙 红 M", "apparel", 25900, 9200, 420),
    Good("DRESS01-RED-L", "连衣裙 红 L", "apparel", 25900, 9200, 440),
    Good("SOCK02-WHT", "棉袜三双 白", "apparel", 2990, 800, 150),
    Good("SOCK02-BLK", "棉袜三双 黑", "apparel", 2990, 800, 150),
    Good("COAT01-BLK-L", "羽绒服 黑 L", "apparel", 89900, 36000, 1350),
    Good("COAT01-BLK-M", "羽绒服 黑 M", "apparel", 89900, 36000, 1280),
    Good("SHIRT03-WHT-M", "牛津纺衬衫 白 M", "apparel", 15900, 5200, 310),
    Good("JEANS04-BLU-32", "直筒牛仔裤 蓝 32", "apparel", 21900, 7800, 680),
    Good("SHOE05-GRY-42", "跑步鞋 灰 42", "footwear", 45900, 18500, 900),
    Good("SHOE05-GRY-39", "跑步鞋 灰 39", "footwear", 45900, 18500, 820),
    Good("TEA06-LJ250", "龙井绿茶 250 克", "food", 16800, 6400, 330),
    Good("TEA06-PE357", "普洱茶饼 357 克", "food", 23800, 9100, 410),
    Good("NUT07-MIX30", "混合坚果 30 包", "food", 12900, 6900, 900),
    Good("RICE08-10KG", "五常大米 10 公斤", "food", 9900, 6100, 10_200, 900),
    Good("OIL09-5L", "菜籽油 5 升", "food", 7990, 5200, 4900, 900),
    Good("BOOK10-SANTI", "三体 全三册", "books", 9300, 4200, 1250, 900),
    Good("BOOK11-HLM", "红楼梦 上下", "books", 5970, 2600, 1100, 900),
    Good("CUP12-500", "保温杯 500 毫升", "home", 11900, 4100, 380),
    Good("PAN13-28", "不粘炒锅 28 厘米", "home", 19900, 8200, 1900),
    Good("LAMP14-DESK", "护眼台灯", "home", 29900, 12800, 1500),
    Good("CREAM15-50", "保湿面霜 50 毫升", "beauty", 18900, 5100, 160),
    Good("MASK16-20", "补水面膜 20 片", "beauty", 9900, 2700, 620),
    Good("TOY17-BLOCK", "积木 1000 颗", "toys", 16900, 6300, 1400),
    Good("CHARGE18-65W", "65 瓦充电器", "digital", 12900, 4800, 140),
)
BY_SKU = {good.sku_id: good for good in GOODS}

LATE = Good("PHONE19-CASE", "手机壳 透明", "digital", 3990, 900, 60)
"""Sold before it is in the catalogue: orders for it are parked until the item arrives."""
SCARCE = Good("GIFT20-2026", "双11 限定礼盒", "home", 49900, 21000, 2100)
"""A few units for many buyers: the rest is back-ordered."""

BUNDLES: tuple[dict[str, Any], ...] = (
    {
        "sku_id": "SET21-TEA",
        "name": "茶礼套装（龙井＋保温杯）",
        "category": "food",
        "weight_grams": 710,
        "tax_rate_bp": 1300,
        "standard_cost_minor": 10_500,
        "bundle_parts": [
            {"sku_id": "TEA06-LJ250", "quantity": 1, "price_weight": 168},
            {"sku_id": "CUP12-500", "quantity": 1, "price_weight": 119},
        ],
    },
    {
        "sku_id": "SET22-SOCK",
        "name": "棉袜家庭装（黑白各二）",
        "category": "apparel",
        "weight_grams": 600,
        "tax_rate_bp": 1300,
        "standard_cost_minor": 3200,
        "bundle_parts": [
            {"sku_id": "SOCK02-WHT", "quantity": 2, "price_weight": 1},
            {"sku_id": "SOCK02-BLK", "quantity": 2, "price_weight": 1},
        ],
    },
)


def bench_goods(count: int) -> list[Good]:
    """As many plain SKUs as a bench wants, priced and weighed by their number."""
    return [
        Good(f"BENCH-{number:05d}", f"压测商品 {number}", "home", 1000 + 10 * (number % 900), 400, 100 + number % 900)
        for number in range(count)
    ]
