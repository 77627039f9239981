"""Regions, grades, normal forms and masks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.address import (
    Region,
    grade,
    has_extension,
    keywords_in,
    mask_name,
    mask_phone,
    plain,
    plain_phone,
    short_name,
)
from ingest.privacy import regions

FOUND = [
    (("浙江省", "杭州市", "余杭区"), "330110", 3),
    (("浙江", "杭州", "余杭"), "330110", 3),
    (("北京市", "北京市", "朝阳区"), "110105", 3),
    (("北京", "", "海淀区"), "110108", 3),
    (("上海", "上海", "浦东新区"), "310115", 3),
    (("上海市", "市辖区", "静安区"), "310106", 3),
    (("重庆市", "重庆市", "渝中区"), "500103", 3),
    (("重庆市", "重庆市", "忠县"), "500233", 3),
    (("重庆市", "县", "忠县"), "500233", 3),
    (("广东省", "东莞市", ""), "441900", 3),
    (("广东省", "东莞市", "南城街道"), "441900", 3),
    (("湖北省", "仙桃市", ""), "429004", 3),
    (("湖北省", "省直辖县级行政区划", "仙桃市"), "429004", 3),
    (("河南省", "", "济源市"), "419001", 3),
    (("浙江省", "义乌市", ""), "330782", 3),
    (("新疆维吾尔自治区", "乌鲁木齐市", "天山区"), "650102", 3),
    (("新疆", "石河子市", ""), "659001", 3),
    (("广西壮族自治区", "南宁市", "青秀区"), "450103", 3),
    (("内蒙古", "呼和浩特", "赛罕区"), "150105", 3),
    (("云南省", "大理白族自治州", "大理市"), "532901", 3),
    (("云南省", "大理州", "大理市"), "532901", 3),
    (("江苏省", "徐州市", "丰县"), "320321", 3),
    (("浙江省", "杭州市", "钱塘区"), "330114", 3),
    (("浙江省", "杭州市", "不存在区"), "330100", 2),
    (("浙江省", "杭州市", ""), "330100", 2),
    (("浙江省", "不存在市", "余杭区"), "330000", 1),
    (("不存在省", "杭州市", "余杭区"), "000000", 0),
    (("", "", ""), "000000", 0),
]


@pytest.mark.parametrize(("names", "code", "level"), FOUND, ids=["/".join(names) for names, _, _ in FOUND])
def test_names_lead_to_codes(names: tuple[str, str, str], code: str, level: int) -> None:
    region = regions().find(None, *names)
    assert (region.code, region.level) == (code, level)


def test_a_given_code_counts_more_than_names() -> None:
    region = regions().find("330110", "胡写", "", "")
    assert (region.province, region.city, region.district) == ("浙江省", "杭州市", "余杭区")
    assert region.latitude is not None
    assert abs(region.latitude - 30.4) < 0.5


def test_municipalities_and_province_run_counties_have_a_city() -> None:
    assert regions().find("110105", "", "", "").city == "北京市"
    assert regions().find("429004", "", "", "").city == "仙桃市"


def test_an_unknown_code_falls_back_to_names() -> None:
    assert regions().find("999999", "浙江省", "杭州市", "余杭区").code == "330110"


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_any_text_gives_some_region(province: str, city: str, district: str) -> None:
    """Fails when a stranger's spelling can raise, which would park a paid order as poison."""
    assert len(regions().find(None, province, city, district).code) == 6


DISTRICT = Region("330110", "浙江省", "杭州市", "余杭区", 30.4, 120.0, 3)
CITY = Region("330100", "浙江省", "杭州市", "", 30.2, 120.2, 2)
PROVINCE = Region("330000", "浙江省", "", "", 30.2, 120.2, 1)
NOTHING = Region("000000", "", "", "", None, None, 0)


@pytest.mark.parametrize(
    ("region", "street", "handle", "expected"),
    [
        (DISTRICT, "文一西路 969 号 3 栋", False, "complete"),
        (DISTRICT, "村口", False, "street_short"),
        (DISTRICT, "", False, "unusable"),
        (DISTRICT, "", True, "complete"),
        (DISTRICT, "文一西路****", True, "complete"),
        (DISTRICT, "文一西路****", False, "street_short"),
        (CITY, "文一西路 969 号", False, "district_unknown"),
        (PROVINCE, "文一西路 969 号", False, "city_unknown"),
        (NOTHING, "文一西路 969 号", True, "unusable"),
    ],
)
def test_grades(region: Region, street: str, handle: bool, expected: str) -> None:
    assert grade(region, street, handle=handle, domestic=True) == expected


def test_short_names_keep_two_characters() -> None:
    names = ("浙江省", "广西壮族自治区", "丰县", "大理白族自治州", "香港特别行政区")
    assert [short_name(name) for name in names] == ["浙江", "广西", "丰县", "大理", "香港"]


def test_equal_things_have_one_spelling() -> None:
    assert plain("Ａ座 １２－３，（后门）") == plain("a座12-3后门")
    assert {
        plain_phone(text) for text in ("13812345678", "+86 138-1234-5678", "0086 13812345678", "８６１３８１２３４５６７８")
    } == {"13812345678"}
    assert plain_phone("13812345678转1234") == "13812345678"


def test_extensions_mark_privacy_numbers() -> None:
    assert has_extension("18412345678-1234")
    assert has_extension("184 1234 5678 转 567")
    assert not has_extension("13812345678")


@given(st.text(min_size=3, max_size=30))
def test_masks_show_one_character_of_a_name(name: str) -> None:
    """Fails when a mask gives away more than the first character, or how long the name is."""
    masked = mask_name(name)
    assert masked == "" or (len(masked) == 3 and masked[1:] == "**")


@given(st.from_regex(r"\+?[0-9*]{7,15}", fullmatch=True))
def test_masks_show_at_most_seven_digits_of_a_phone(phone: str) -> None:
    masked = mask_phone(phone)
    assert sum(character.isdigit() for character in masked) <= 7
    assert "****" in masked


def test_phone_masks() -> None:
    assert mask_phone("+86 13812345678") == "138****5678"
    assert mask_phone("*******5678") == "****5678"
    assert mask_phone("") == ""


def test_keywords_come_once_and_in_the_tables_order() -> None:
    table = {"顺丰": "wants_carrier", "中通": "wants_carrier", "不要打电话": "no_contact"}
    assert keywords_in(("不要打电话，发顺丰", "顺丰或中通"), table) == ["wants_carrier", "no_contact"]
    assert keywords_in(("", ""), table) == []


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (("张三家", "李四", "13812345678"), ("", "", "")),
        (("浙江省", "张三的店对面", "李四"), ("浙江省", "", "")),
        (("浙江省", "杭州市", "找张三 13812345678"), ("浙江省", "杭州市", "")),
        (("广东省", "东莞市", "李四"), ("广东省", "东莞市", "")),
    ],
)
def test_only_official_names_leave(given: tuple[str, str, str], names: tuple[str, str, str]) -> None:
    """Fails when what was typed into a region's field goes out as its name: it may be a person's."""
    region = regions().find(None, *given)
    assert (region.province, region.city, region.district) == names
