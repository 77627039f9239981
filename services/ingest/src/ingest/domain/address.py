"""What can be said about a receiver without saying who it is: normal forms, masks, grade, region, note keywords."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

_SPACE_AND_MARKS = re.compile(r"[\s,，.。;；:：\-_—·•'\"“”‘’()（）\[\]【】#/\\|]+")
_NOT_PHONE = re.compile(r"[^\d+*]")
_MOBILE = re.compile(r"1[3-9]\d{9}")
# After a dash only where seven digits stand before it: 400-820-8820 and 138-1234-5678 have none.
_EXTENSION = re.compile(r"(?:转|分机|ext\.?|[,，;；#])\s*\d{1,6}$|(?<=\d{7})[\-—－]\d{1,6}$", re.IGNORECASE)
_PEOPLES = (
    "蒙古族?|维吾尔族?|哈萨克族?|柯尔克孜族?|塔吉克族?|锡伯族?|达斡尔族?|鄂温克族?|鄂伦春族?|布依族|朝鲜族|土家族|哈尼族|傈僳族|拉祜族|东乡族|"
    "纳西族|景颇族|仫佬族|布朗族|撒拉族|毛南族|仡佬族|阿昌族|普米族|德昂族|保安族|裕固族|独龙族|赫哲族|门巴族|珞巴族|基诺族|各族|回族?|藏族|"
    "苗族|彝族|壮族|满族|侗族|瑶族|白族|傣族|黎族|佤族|畲族|水族|土族|羌族|怒族|京族"
)
_SUFFIX = re.compile(rf"(?:特别行政区|(?:(?<!内)(?:{_PEOPLES}))*自治[区州县旗]|林区|地区|[省市区县旗盟州])$")
MASK = "*"
STREET_MINIMUM = 5
"""Characters of a street a courier can find: 中山路1号 has five."""


def plain(text: str) -> str:
    """One spelling: full width to half width, no blanks or marks, lower case. 「Ａ座 １２－３」 becomes 「a座123」."""
    return _SPACE_AND_MARKS.sub("", unicodedata.normalize("NFKC", text)).lower()


def plain_phone(phone: str) -> str:
    """Digits only, without extension and the country code of China; a foreign number keeps its leading +."""
    text = unicodedata.normalize("NFKC", phone).strip() if not phone.isascii() else phone.strip()
    digits = _NOT_PHONE.sub("", _EXTENSION.sub("", text))
    if digits.startswith("00"):
        digits = f"+{digits[2:]}"
    if digits.startswith("+86") or (len(digits) == 13 and digits.startswith("86")):
        return digits.removeprefix("+")[2:].replace("+", "")
    return f"+{digits[1:].replace('+', '')}" if digits.startswith("+") and len(digits) > 1 else digits.replace("+", "")


def is_mobile(plain_digits: str) -> bool:
    return _MOBILE.fullmatch(plain_digits) is not None


def has_extension(phone: str) -> bool:
    """A mobile number with an extension is a platform's privacy number: it ends with the order."""
    return _EXTENSION.search(phone.strip()) is not None


def mask_name(name: str) -> str:
    """The first character and two stars, however long the name is: its length says something too."""
    name = name.strip()
    return f"{name[0]}{MASK * 2}" if name else ""


def mask_phone(phone: str) -> str:
    """138****5678; what is shorter than seven digits shows its last two only."""
    digits = plain_phone(phone)
    if not digits:
        return ""
    if MASK in digits:
        # Masked by the channel already; no more than the last four may stand, whatever it left open.
        return f"{MASK * 4}{''.join(character if character.isdigit() else MASK for character in digits[-4:])}"
    return f"{digits[:3]}{MASK * 4}{digits[-4:]}" if len(digits) >= 7 else f"{MASK * 4}{digits[-2:]}"


def keywords_in(notes: Iterable[str], table: Mapping[str, str]) -> list[str]:
    """Codes of the phrases found in the notes, in the table's order, each once."""
    text = "\n".join(note for note in notes if note)
    if not text:
        return []
    return list(dict.fromkeys(code for phrase, code in table.items() if phrase in text))


@dataclass(frozen=True, slots=True)
class Region:
    code: str
    """GB/T 2260, zeros where unknown."""
    province: str
    city: str
    district: str
    latitude: float | None
    longitude: float | None
    level: int
    """0 nothing known, 1 province, 2 city, 3 district (or a city that has no districts)."""


NOWHERE = Region("000000", "", "", "", None, None, 0)


def short_name(name: str) -> str:
    """浙江省 → 浙江, 广西壮族自治区 → 广西. What would leave one character only stays: 丰县, 环县."""
    cut = _SUFFIX.sub("", name)
    return cut if len(cut) >= 2 else name


class Regions:
    """Names and codes of provinces, cities and districts. Built once, read by every order."""

    def __init__(self, rows: Iterable[tuple[str, str, float, float]]) -> None:
        """Rows: (code, name, latitude, longitude); the placeholder of province-run counties (xx9000) has no name."""
        self._by_code = {code: (name, latitude, longitude) for code, name, latitude, longitude in rows}
        self._provinces: dict[str, str] = {}
        self._cities: dict[tuple[str, str], str] = {}
        self._districts: dict[tuple[str, str], str] = {}
        self._in_province: dict[tuple[str, str], str | None] = {}
        self._with_districts: set[str] = set()
        for code, (name, _, _) in self._by_code.items():
            for spelling in {name, short_name(name)} - {""}:
                if code.endswith("0000"):
                    self._provinces.setdefault(spelling, code)
                elif code.endswith("00"):
                    self._cities.setdefault((code[:2], spelling), code)
                else:
                    self._districts.setdefault((code[:4], spelling), code)
                    # A name that occurs in two cities of a province names neither.
                    both = self._in_province.get((code[:2], spelling), code)
                    self._in_province[code[:2], spelling] = code if both == code else None
            if not code.endswith("00"):
                self._with_districts.add(code[:4])
        # Regions are public facts and repeat all day: 4,096 of them cover a day's addresses.
        self.find = lru_cache(maxsize=4096)(self._find)

    def _find(self, code: str | None, province: str, city: str, district: str) -> Region:
        """The region of a code or, where that is unknown, of the names."""
        if code and code in self._by_code:
            return self._of_code(code)
        return self._of_names(province.strip(), city.strip(), district.strip())

    def _of_names(self, province: str, city: str, district: str) -> Region:
        province_code = self._lookup(self._provinces, province)
        if province_code is None:
            return NOWHERE
        head = province_code[:2]
        city_code = self._lookup_in(self._cities, head, city)
        if city_code is None and (county := self._county(head, city)):
            city_code = county if county[2:4] == "90" else f"{county[:4]}00"  # 仙桃市 as a city, or a county in its place.
            district = district or city
        if (
            city_code is None
            and city in ("", province, "市辖区", "县", "省直辖县级行政区划")
            and (county := self._county(head, district))
        ):
            return self._of_code(county)
        if city_code is None:
            return self._region(province_code, 1)
        if not district or not city_code.endswith("00"):
            return self._of_code(city_code)
        # 重庆 has two "cities" (districts, counties): a name may stand under either.
        district_code = self._lookup_in(self._districts, city_code[:4], district) or (
            self._county(head, district) if head in ("11", "12", "31", "50") else None
        )
        if district_code is None:
            level = 3 if city_code[:4] not in self._with_districts else 2
            return self._region(city_code, level)
        return self._of_code(district_code)

    def _county(self, head: str, name: str) -> str | None:
        return self._in_province.get((head, name)) or self._in_province.get((head, short_name(name))) if name else None

    @staticmethod
    def _lookup(table: Mapping[str, str], name: str) -> str | None:
        return table.get(name) or table.get(short_name(name)) if name else None

    @staticmethod
    def _lookup_in(table: Mapping[tuple[str, str], str], head: str, name: str) -> str | None:
        return table.get((head, name)) or table.get((head, short_name(name))) if name else None

    def _of_code(self, code: str) -> Region:
        level = 1 if code.endswith("0000") else 2 if code.endswith("00") else 3
        if level == 2 and code[:4] not in self._with_districts:
            level = 3  # 东莞, 中山, 儋州, 嘉峪关: a city without districts is as exact as it gets.
        return self._region(code, level)

    def _region(self, code: str, level: int) -> Region:
        """Official names alone: what somebody typed into these fields may be a name, a street, anything."""
        own_name, latitude, longitude = self._by_code[code]
        return Region(
            code=code,
            province=self._by_code.get(f"{code[:2]}0000", ("", 0.0, 0.0))[0],
            city=self._city_name(code, own_name),
            district="" if code.endswith("00") else own_name,
            latitude=latitude,
            longitude=longitude,
            level=level,
        )

    def _city_name(self, code: str, own_name: str) -> str:
        if code.endswith("0000"):
            return ""
        return self._by_code.get(f"{code[:4]}00", ("", 0.0, 0.0))[0] or ("" if code.endswith("00") else own_name)


def grade(region: Region, street: str, *, handle: bool, domestic: bool) -> str:
    """complete | street_short | district_unknown | city_unknown | unusable: can a courier find it?

    A street that the platform masks counts as whole where it gave a handle: the label is printed from that.
    """
    if domestic and region.level == 0:
        return "unusable"
    if domestic and region.level < 3:
        return "city_unknown" if region.level == 1 else "district_unknown"
    if MASK in street:
        return "complete" if handle else "street_short"
    if not street.strip():
        return "unusable" if not handle else "complete"
    return "complete" if len(plain(street)) >= STREET_MINIMUM else "street_short"
