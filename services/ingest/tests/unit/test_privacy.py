"""Sealing, tokens and what is told of a receiver."""

import pytest
from cryptography.exceptions import InvalidTag

from contracts import Buyer, Receiver
from ingest.privacy import Envelope, Tokens, destination_of, phone_kind

KEY = bytes(range(32))
TOKENS = Tokens(KEY)


def a_receiver(**changes: str) -> Receiver:
    return Receiver.model_validate(
        {
            "name": "李小明",
            "phone": "13812345678",
            "province": "浙江省",
            "city": "杭州市",
            "district": "余杭区",
            "street": "文一西路 969 号 3 栋 502 室",
            **changes,
        }
    )


def test_what_is_sealed_opens_with_its_key_and_its_id_only() -> None:
    """Fails when sealed text is not bound to the receiver it belongs to, or a key does not matter."""
    envelope = Envelope(KEY, "1")
    sealed = envelope.seal("李小明".encode(), "ref-1")
    assert envelope.open(sealed, "ref-1").decode() == "李小明"
    assert "李小明".encode() not in sealed.ciphertext
    with pytest.raises(InvalidTag):
        envelope.open(sealed, "ref-2")


def test_each_text_has_a_data_key_of_its_own() -> None:
    envelope = Envelope(KEY, "1")
    one, other = envelope.seal(b"a", "r"), envelope.seal(b"a", "r")
    assert one.wrapped_key != other.wrapped_key
    assert one.ciphertext != other.ciphertext


def test_an_older_key_still_opens() -> None:
    sealed = Envelope(KEY, "1").seal(b"a", "r")
    assert Envelope(KEY[::-1], "2", older={"1": KEY}).open(sealed, "r") == b"a"


def test_equal_values_give_equal_tokens_whatever_their_spelling() -> None:
    """Fails when a blacklist could be passed by writing the same phone or street differently."""
    assert TOKENS.phone("+86 138-1234-5678") == TOKENS.phone("13812345678")
    one, other = a_receiver(street="文一西路９６９号３栋，502室"), a_receiver(phone="+8613812345678")
    assert destination_of(one, TOKENS).address_token == destination_of(other, TOKENS).address_token
    assert destination_of(one, TOKENS).receiver_token == destination_of(other, TOKENS).receiver_token


def test_tokens_need_the_key_and_tell_kinds_apart() -> None:
    assert TOKENS.phone("13812345678") != Tokens(KEY[::-1]).phone("13812345678")
    assert TOKENS.buyer("jd", Buyer(buyer_id="13812345678")) != TOKENS.phone("13812345678")
    assert TOKENS.buyer("jd", Buyer(buyer_id="1")) != TOKENS.buyer("taobao", Buyer(buyer_id="1"))


def test_masked_values_have_no_token_but_the_handle_has() -> None:
    destination = destination_of(a_receiver(name="李**", phone="*******5678", street="文一西路****", handle="oaid-1"), TOKENS)
    assert (destination.phone_token, destination.address_token) == ("", "")
    assert destination.receiver_token
    assert (destination.phone_kind, destination.address_grade) == ("masked", "complete")


def test_a_destination_names_nobody() -> None:
    """Fails when name, phone or street get out on the spine."""
    text = destination_of(a_receiver(town="五常街道"), TOKENS).model_dump_json()
    for secret in ("李小明", "小明", "13812345678", "文一西路", "969", "五常街道"):
        assert secret not in text
    assert "李**" in text
    assert "138****5678" in text


def test_an_order_without_receiver_can_go_nowhere() -> None:
    destination = destination_of(None, TOKENS)
    assert (destination.address_grade, destination.phone_kind, destination.region_code) == ("unusable", "missing", "000000")


def test_abroad_the_region_is_unknown_and_the_street_decides() -> None:
    destination = destination_of(
        a_receiver(
            country="SG", province="", city="Singapore", district="", street="10 Anson Road #10-11", phone="+6562211111"
        ),
        TOKENS,
    )
    assert (destination.region_code, destination.address_grade, destination.phone_kind) == ("000000", "complete", "foreign")


@pytest.mark.parametrize(
    ("phone", "kind"),
    [
        ("13812345678", "mobile"),
        ("+86 138 1234 5678", "mobile"),
        ("18412345678-1234", "virtual"),
        ("0571-88886666", "landline"),
        ("(010) 6552 9988", "landline"),
        ("400-820-8820", "landline"),
        ("+1 650 253 0000", "foreign"),
        ("138****5678", "masked"),
        ("", "missing"),
        ("  ", "missing"),
        ("无", "invalid"),
        ("12345", "invalid"),
        ("+", "invalid"),
    ],
)
def test_phone_kinds(phone: str, kind: str) -> None:
    assert phone_kind(phone, "CN") == kind
