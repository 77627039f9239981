"""What must never be read in a log, and what must stay readable."""

import pytest

from telemetry.masking import mask_fields, mask_text


@pytest.mark.parametrize(
    "text",
    [
        "打给13812345678吧",
        "call +8613812345678",
        "call +86 138 1234 5678",
        "call 0086-13812345678",
        "138-1234-5678",
        "0571-88889999",
        "(010) 88889999",
        "+86 571 88889999",
        "id 11010519900307123X",
        "mail zhang.san@example.com",
    ],
)
def test_phones_identity_cards_and_mail_addresses_are_cut_out_of_any_text(text: str) -> None:
    """Fails when a shape is dropped from the pattern."""
    masked = mask_text(text)
    assert "***" in masked
    assert not any(run in masked for run in ("1234", "8888", "1990", "zhang"))


@pytest.mark.parametrize(
    "text",
    [
        "0f9c1388-1234-4678-9138-138123456789",
        "trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "2026-11-24T20:05:26.013812345678+00:00",
        "lag 1764000000000 records",
        "took 0.01381234567 s",
        "order SO-20261124-0001",
        "http://127.0.0.1:8001/v1/orders",
    ],
)
def test_identifiers_times_and_numbers_stay_readable(text: str) -> None:
    """Fails when the pattern eats digits of what operators search for."""
    assert mask_text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://oms:p4ss/w@db:5432/oms", None),
        ("postgresql://oms:p4ss@db:5432/oms", "postgresql://oms:***@db:5432/oms"),
        ("Authorization: Bearer abc.def-ghi", None),
        ('{"api_key": "p4ss-key"}', '{"api_key": "***"}'),
        ("password=p4ss&x=1", "password=***&x=1"),
        ("[parameters: ('张三', '文三路1号')]", "[parameters:***"),
        ("DETAIL:  Key (receiver)=(张三) already exists.", "DETAIL:***"),
        ("quantity\n  bad [type=int, input_value='张三', input_type=str]", "quantity\n  bad [type=int, input_value=***"),
    ],
)
def test_secrets_and_quoted_inputs_are_cut_out(text: str, expected: str | None) -> None:
    """Fails when a library's way of quoting its input gets through."""
    masked = mask_text(text)
    assert "p4ss" not in masked
    assert "张三" not in masked
    assert "abc.def" not in masked
    if expected is not None:
        assert masked == expected


def test_fields_with_personal_names_are_masked_whole_at_any_depth() -> None:
    """Fails when a known field name or the descent into lists and mappings is dropped."""
    masked = mask_fields(
        {
            "order_id": "SO-1",
            "receiver": {"name": "张三"},
            "lines": [{"buyerNote": "送到门口", "sku_id": "A"}],
            "收货人": "张三",
            "X-API-Key": "k",
            "receiver_name": "张三",
            "topic_name": "order.received",
            "quantity": 3,
            "phone": None,
            "13812345678": 1,
        }
    )
    assert masked == {
        "order_id": "SO-1",
        "receiver": "***",
        "lines": [{"buyerNote": "***", "sku_id": "A"}],
        "收货人": "***",
        "X-API-Key": "***",
        "receiver_name": "***",
        "topic_name": "order.received",
        "quantity": 3,
        "phone": None,
        "***": 1,
    }
