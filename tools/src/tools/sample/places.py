"""Four warehouses and six stores across China, what carriers charge between them and the buyer, and where buyers live."""

from typing import Any, NamedTuple


class Place(NamedTuple):
    place_id: str
    name: str
    kind: str
    region_code: str
    latitude: float
    longitude: float
    coverage: tuple[str, ...]
    carriers: tuple[str, ...]
    daily_capacity: int
    priority: int
    handling_cost_minor: int

    def location(self) -> dict[str, Any]:
        """As `PUT /v1/locations` of inventory takes it."""
        return {
            "place_id": self.place_id,
            "name": self.name,
            "kind": self.kind,
            "region_code": self.region_code,
            "latitude": self.latitude,
            "longitude": self.longitude,
            "coverage": list(self.coverage),
            "carriers": list(self.carriers),
            "daily_capacity": self.daily_capacity,
            "priority": self.priority,
            "handling_cost_minor": self.handling_cost_minor,
            "pick_up": self.kind == "store",
        }


_ALL = ("sf", "zto", "yto", "jd")
PLACES: tuple[Place, ...] = (
    Place("WH-HANGZHOU", "杭州余杭仓", "warehouse", "330110", 30.42, 119.98, ("",), _ALL, 200_000, 10, 150),
    Place("WH-GUANGZHOU", "广州增城仓", "warehouse", "440118", 23.29, 113.83, ("",), _ALL, 200_000, 10, 150),
    Place("WH-TIANJIN", "天津武清仓", "warehouse", "120114", 39.38, 117.04, ("",), _ALL, 200_000, 10, 150),
    Place("WH-CHENGDU", "成都双流仓", "warehouse", "510116", 30.57, 103.92, ("",), _ALL, 200_000, 10, 160),
    Place("ST-SHANGHAI", "上海静安店", "store", "310106", 31.23, 121.45, ("31",), ("sf",), 2_000, 50, 250),
    Place("ST-BEIJING", "北京朝阳店", "store", "110105", 39.92, 116.44, ("11",), ("sf",), 2_000, 50, 250),
    Place("ST-SHENZHEN", "深圳南山店", "store", "440305", 22.53, 113.93, ("4403",), ("sf",), 2_000, 50, 250),
    Place("ST-WUHAN", "武汉江汉店", "store", "420103", 30.60, 114.27, ("42",), ("sf", "zto"), 2_000, 50, 220),
    Place("ST-XIAN", "西安雁塔店", "store", "610113", 34.22, 108.95, ("61",), ("sf", "zto"), 2_000, 50, 220),
    Place("ST-NANJING", "南京鼓楼店", "store", "320106", 32.06, 118.77, ("32",), ("sf", "zto"), 2_000, 50, 220),
)

THIRD_PARTY = Place("WH-NINGBO-3PL", "宁波三方仓", "warehouse", "330212", 29.82, 121.55, ("",), ("zto", "sf"), 200_000, 20, 150)
"""Somebody else's warehouse, driven by its own WMS over HTTP."""

# First kilogram and each further one, in fen, and days: near (same province), middle, far. Made up, in today's proportions.
_TARIFFS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "sf": ((1200, 200, 1), (1500, 500, 2), (2000, 1000, 3)),
    "zto": ((500, 100, 2), (800, 300, 3), (1200, 700, 5)),
    "yto": ((480, 100, 2), (780, 320, 4), (1150, 720, 5)),
    "jd": ((900, 180, 1), (1200, 400, 2), (1700, 800, 4)),
}
_NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "33": ("31", "32", "34", "35", "36", "37", "42"),
    "44": ("35", "36", "43", "45", "46"),
    "12": ("11", "13", "14", "15", "21", "37", "41"),
    "51": ("50", "52", "53", "54", "61", "62", "63"),
    "31": ("32", "33"),
    "11": ("12", "13"),
    "42": ("34", "36", "41", "43", "50", "61"),
    "61": ("14", "41", "42", "51", "62"),
    "32": ("31", "33", "34", "37"),
}


def freight_tables() -> dict[str, list[dict[str, Any]]]:
    """Each carrier's rows by origin and destination province, as `PUT /v1/freight-tables` of router takes them."""
    origins = sorted({place.region_code[:2] for place in PLACES})
    tables: dict[str, list[dict[str, Any]]] = {}
    for carrier, (near, middle, far) in _TARIFFS.items():
        rows = tables[carrier] = []
        for origin in origins:
            rows.append(_row(origin, origin, near))
            rows.extend(_row(origin, province, middle) for province in _NEIGHBOURS[origin])
            rows.append(_row(origin, "", far))
    return tables


def _row(origin: str, destination: str, tariff: tuple[int, int, int]) -> dict[str, Any]:
    first, step, days = tariff
    return {
        "origin_prefix": origin,
        "destination_prefix": destination,
        "first_weight_grams": 1000,
        "first_price_minor": first,
        "step_weight_grams": 1000,
        "step_price_minor": step,
        "days": days,
    }


class District(NamedTuple):
    province: str
    city: str
    district: str
    streets: tuple[str, ...]


DISTRICTS: tuple[District, ...] = (
    District("浙江省", "杭州市", "余杭区", ("文一西路", "仓兴街", "五常大道")),
    District("浙江省", "杭州市", "西湖区", ("文三路", "天目山路", "古墩路")),
    District("浙江省", "宁波市", "鄞州区", ("钱湖北路", "天童南路")),
    District("上海市", "上海市", "静安区", ("南京西路", "延平路", "江宁路")),
    District("上海市", "上海市", "浦东新区", ("张杨路", "世纪大道", "龙阳路")),
    District("江苏省", "南京市", "鼓楼区", ("中山北路", "湖南路")),
    District("江苏省", "苏州市", "吴中区", ("东吴北路", "石湖西路")),
    District("北京市", "北京市", "朝阳区", ("建国路", "望京街", "三里屯路")),
    District("北京市", "北京市", "海淀区", ("中关村大街", "学院路")),
    District("天津市", "天津市", "武清区", ("雍阳西道", "京津公路")),
    District("河北省", "石家庄市", "长安区", ("中山东路", "建设北大街")),
    District("山东省", "济南市", "历下区", ("经十路", "泉城路")),
    District("山东省", "青岛市", "市南区", ("香港中路", "闽江路")),
    District("广东省", "广州市", "天河区", ("天河路", "体育东路", "黄埔大道西")),
    District("广东省", "深圳市", "南山区", ("科苑路", "后海大道", "桃园路")),
    District("广东省", "东莞市", "", ("鸿福路", "东城大道")),
    District("福建省", "厦门市", "思明区", ("湖滨南路", "厦禾路")),
    District("湖南省", "长沙市", "岳麓区", ("麓山南路", "枫林一路")),
    District("湖北省", "武汉市", "江汉区", ("解放大道", "建设大道")),
    District("河南省", "郑州市", "金水区", ("花园路", "农业路")),
    District("四川省", "成都市", "武侯区", ("人民南路四段", "科华北路")),
    District("四川省", "绵阳市", "涪城区", ("临园路东段", "长虹大道")),
    District("重庆市", "重庆市", "渝中区", ("解放碑民权路", "中山三路")),
    District("陕西省", "西安市", "雁塔区", ("小寨东路", "高新路")),
    District("云南省", "昆明市", "五华区", ("人民中路", "东风西路")),
    District("辽宁省", "沈阳市", "和平区", ("太原街", "南京北街")),
    District("黑龙江省", "哈尔滨市", "南岗区", ("东大直街", "果戈里大街")),
    District("新疆维吾尔自治区", "乌鲁木齐市", "天山区", ("解放北路", "中山路")),
    District("广西壮族自治区", "南宁市", "青秀区", ("民族大道", "金湖路")),
    District("内蒙古自治区", "呼和浩特市", "赛罕区", ("大学西街", "新华东街")),
)
