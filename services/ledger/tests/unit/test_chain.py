"""The chain: every way of changing the past breaks it at a place that is named."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger.domain.chain import (
    GENESIS,
    Content,
    Head,
    Link,
    Numbered,
    Posting,
    Verifier,
    batch_digest,
    link_hash,
    voucher_hash,
)


def a_voucher(number: int, amount: int = 100) -> Numbered:
    content = Content(
        UUID(int=number), UUID(int=100 + number), "paid", 1, b"h", UUID(int=1), UUID(int=1), None,
        "taobao", "店", "CNY", datetime(2026, 11, 24, tzinfo=UTC), "收款",
    )  # fmt: skip
    postings = (Posting("1122.01", amount, 0), Posting("2205", 0, amount))
    return Numbered(number, content.voucher_id, voucher_hash(content, postings), content, postings)


def a_chain(*sizes: int) -> tuple[list[tuple[Link, list[Numbered]]], Head]:
    links: list[tuple[Link, list[Numbered]]] = []
    previous, number = GENESIS, 0
    for link_no, size in enumerate(sizes, 1):
        vouchers = [a_voucher(number + n) for n in range(1, size + 1)]
        digest = batch_digest([voucher.hash for voucher in vouchers])
        previous = link_hash(previous, digest)
        links.append((Link(link_no, number + 1, number + size, digest, previous), vouchers))
        number += size
    return links, Head(number, len(sizes), previous)


def walk(links: list[tuple[Link, list[Numbered]]], head: Head) -> tuple[str, int, int | None] | None:
    verifier = Verifier()
    found = next((bad for link, vouchers in links if (bad := verifier.check_link(link, vouchers))), None)
    found = found or verifier.check_head(head)
    return found and (found.code, found.link_no, found.number)


def test_an_untouched_chain_holds() -> None:
    assert walk(*a_chain(3, 1, 2)) is None


def test_a_changed_amount_names_its_voucher() -> None:
    """Fails when the hash leaves out the postings."""
    links, head = a_chain(2, 3)
    good = links[1][1][1]
    links[1][1][1] = good._replace(postings=(Posting("1122.01", 99, 0), Posting("2205", 0, 99)))
    assert walk(links, head) == ("voucher_changed", 2, 4)


def test_a_forged_hash_breaks_the_link() -> None:
    """Whoever changes a voucher and its stored hash still meets the link."""
    links, head = a_chain(2, 3)
    forged = a_voucher(4, amount=99)
    links[1][1][1] = forged
    assert walk(links, head) == ("link_changed", 2, None)


@pytest.mark.parametrize(
    ("drop", "expected"),
    [((1, 2), ("voucher_missing", 2, 5)), ((1, None), ("link_missing", 2, 3)), ((0, None), ("link_missing", 1, None))],
)
def test_what_is_gone_is_named(drop: tuple[int, int | None], expected: tuple[str, int, int | None]) -> None:
    """Fails when the tail may be cut off unseen: the counter says where the chain must end."""
    links, head = a_chain(2, 3)
    if drop[1] is None:
        del links[drop[0]]
    else:
        del links[drop[0]][1][drop[1]]
    assert walk(links, head) == expected


def test_a_slipped_in_voucher_is_named() -> None:
    links, head = a_chain(2)
    links[0][1].append(a_voucher(9))
    assert walk(links, head) == ("voucher_unexpected", 1, 9)


def test_swapped_numbers_break_the_link() -> None:
    links, head = a_chain(2)
    first, second = links[0][1]
    links[0] = (links[0][0], [second._replace(number=1), first._replace(number=2)])
    assert walk(links, head) == ("link_changed", 1, None)


def test_equal_instants_in_other_zones_hash_alike() -> None:
    """Fails when the hash takes the zone along: the database gives every time back in UTC."""
    content = a_voucher(1).content
    assert content is not None
    moved = content._replace(occurred_at=datetime.fromisoformat("2026-11-24T08:00:00+08:00"))
    assert voucher_hash(content, ()) == voucher_hash(moved, ())
