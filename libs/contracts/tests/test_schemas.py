"""Snapshots and golden examples: what is promised to other readers and writers."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from contracts import TOPICS, Event, OrderAudited, OrderReceived, ShipmentCreated, text_of
from contracts.reasons import REASONS
from contracts.schemas import breaking_changes, events, example_of, problems, schema_of


def test_snapshots_and_examples_are_what_the_models_give() -> None:
    """Fails when a model changes without `make schemas`, or a topic has no example."""
    assert problems() == []


@pytest.mark.parametrize("event", events(), ids=lambda event: event.TYPE)
def test_an_example_survives_decoding_and_encoding(event: type[Event]) -> None:
    """Fails when a field is dropped, renamed or re-formatted on its way through a service."""
    body = example_of(event)
    assert json.loads(event.model_validate_json(body).model_dump_json()) == json.loads(body)


@pytest.mark.parametrize("event", events(), ids=lambda event: event.TYPE)
def test_an_unknown_field_is_kept_at_every_level(event: type[Event]) -> None:
    """Fails when a model forbids or drops extras: a field added by a newer service must reach the end of the spine."""
    body = _with_extras(json.loads(example_of(event)))
    assert json.loads(event.model_validate_json(json.dumps(body)).model_dump_json()) == body


def test_the_order_block_passes_from_event_to_event_untouched() -> None:
    """Fails when a re-emitted order block loses what this version does not know."""
    body = json.loads(example_of(OrderReceived))
    body["order"]["loyalty_tier"] = {"name": "金卡", "points": 12}
    received = OrderReceived.model_validate_json(json.dumps(body))
    audited = OrderAudited(
        root_id=received.root_id,
        order_id=received.order_id,
        order=received.order,
        part=received.part,
        rule_set_version=1,
        progress=received.progress,
    )
    shipped = json.loads(example_of(ShipmentCreated)) | {"order": json.loads(audited.model_dump_json())["order"]}
    assert ShipmentCreated.model_validate(shipped).model_dump(mode="json")["order"] == body["order"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda schema: schema["properties"].pop("part"), "part: removed"),
        (lambda schema: schema["$defs"]["OrderLine"]["properties"]["quantity"].update(maximum=5), "maximum"),
        (lambda schema: schema["$defs"]["Part"]["properties"]["order_id"].update(type="integer"), "type"),
        (lambda schema: schema["required"].append("added") or schema["properties"].update(added={"type": "string"}), "added"),
    ],
    ids=["removed", "narrowed", "retyped", "new and required"],
)
def test_a_breaking_change_is_named(change: Any, said: str) -> None:
    """Fails when the comparison overlooks a kind of change that breaks the other side."""
    new = json.loads(json.dumps(schema_of(OrderReceived)))
    change(new)
    assert any(said in line for line in breaking_changes(schema_of(OrderReceived), new))


def test_an_added_optional_field_breaks_nobody() -> None:
    new = json.loads(json.dumps(schema_of(OrderReceived)))
    new["properties"]["added"] = {"type": "string", "default": ""}
    assert list(breaking_changes(schema_of(OrderReceived), new)) == []


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 1.5, True, "2", "many", None])
def test_an_impossible_quantity_is_refused(quantity: object) -> None:
    """Fails when numbers stop being strict: JSON `true` would be one unit."""
    body = json.loads(example_of(OrderReceived))
    body["part"]["lines"][0]["quantity"] = quantity
    with pytest.raises(ValidationError):
        OrderReceived.model_validate_json(json.dumps(body))


def test_a_topic_has_one_writer_unless_settling_or_foreign() -> None:
    """Fails when a second service starts to write what another owns."""
    shared = {name for name, topic in TOPICS.items() if len(topic.writers) != 1}
    assert shared == {"cancellation.settled"}


def test_topic_names_never_use_underscores() -> None:
    """Kafka's metrics fold dots and underscores together."""
    assert [name for name in TOPICS if "_" in name] == []


def test_every_reason_reads_in_both_languages_even_without_params() -> None:
    for code in REASONS:
        assert text_of(code)
        assert text_of(code, chinese=True)
    assert text_of("voucher_posted", {"word": "记", "number": 7, "template": "paid", "total_minor": -123_45}) == (
        "voucher 记-7 (paid): -123.45"
    )
    assert text_of("no_such_code") == "no_such_code"


def _with_extras(value: Any) -> Any:
    if isinstance(value, dict):
        # Free-form dictionaries hold only what their owner puts there; an extra key in them is as good as any.
        return {**{key: _with_extras(item) for key, item in value.items()}, "x_unknown": ["新字段", 1]}
    if isinstance(value, list):
        return [_with_extras(item) for item in value]
    return value
