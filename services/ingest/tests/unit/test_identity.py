"""Ids of orders."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.identity import order_id_of, record_id_of

PARTS = st.tuples(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))


def test_order_ids_never_change() -> None:
    """Fails when the name space or the spelling changes: every known order would be taken in a second time."""
    assert order_id_of("taobao", "tb-flagship", "4000000000000000100") == UUID("6dacd2fc-cf8f-59f9-8672-4189cf3cff61")
    assert order_id_of("wechat_shop", "小店", "订单-1") == UUID("f0a11504-dc16-5372-a28b-e840f6c92a64")


def test_parts_do_not_run_into_each_other() -> None:
    assert order_id_of("a", "b:c", "d") != order_id_of("a:b", "c", "d")


@given(PARTS, PARTS)
def test_different_orders_have_different_ids(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Fails when two channel orders could become one."""
    assert (order_id_of(*one) == order_id_of(*other)) == (one == other)


def test_a_record_is_its_order_version_and_content() -> None:
    order_id = order_id_of("jd", "1", "2")
    ids = {record_id_of(order_id, version, content) for version in (1, 2) for content in (b"a", b"b")}
    assert len(ids) == 4
