"""What a subscriber has missed: docs/PROTOCOL.md, "Channels", on `recovered`."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.limits import LIMITS
from chalicelib.protocol.publication import Missed, Position, Publication

TOP = 8


def publication(offset: int, size: int = 0) -> Publication:
    return Publication(offset, "x" * size, None, "2026-11-23T09:30:00.125Z", is_empty=size == 0)


def of(recover: Position | None, *kept: Publication, size: int = 100) -> Missed:
    def read(first: int, last: int) -> Iterator[Publication]:
        return (each for each in kept if first <= (each.offset or 0) <= last)

    return Missed(recover, Position("e", TOP), size, TOP, read)


def offsets(found: Missed) -> list[list[int | None]]:
    return [[each.offset for each in part] for part in found.parts()]


def test_without_a_position_nothing_is_recovered() -> None:
    found = of(None, publication(8, 1))
    assert (offsets(found), found.recovered) == ([], None)


def test_a_subscriber_at_the_top_has_missed_nothing() -> None:
    found = of(Position("e", TOP))
    assert (offsets(found), found.recovered) == ([], True)


@pytest.mark.parametrize("recover", [Position("over", 7), Position("e", TOP + 1), Position("e", 5)])
def test_nothing_is_recovered_from_a_position_that_is_not_kept(recover: Position) -> None:
    found = of(recover, *(publication(n, 1) for n in range(9)), size=2)
    assert (offsets(found), found.recovered) == ([], False)


def test_filled_holes_are_no_loss() -> None:
    found = of(Position("e", 6), publication(7), publication(8))
    assert (offsets(found), found.recovered) == ([], True)


def test_a_publication_larger_than_a_part_is_a_part_of_its_own() -> None:
    found = of(Position("e", 5), *(publication(n, LIMITS.part_bytes) for n in (6, 7, 8)))
    assert offsets(found) == [[6], [7], [8]]


@given(
    st.integers(0, TOP),
    st.lists(st.integers(0, LIMITS.part_bytes), min_size=TOP, max_size=TOP),
    st.none() | st.integers(1, TOP),
)
def test_the_parts_hold_everything_in_order_up_to_the_first_loss(
    since: int, sizes: list[int], lost: int | None
) -> None:
    kept = [publication(n, size) for n, size in enumerate(sizes, 1) if n != lost]
    found = of(Position("e", since), *kept)
    given_offsets = [offset for part in offsets(found) for offset in part]
    expected = [each.offset for each in kept if (each.offset or 0) > since and not each.is_empty]
    if lost is None or lost <= since:
        assert (given_offsets, found.recovered) == (expected, True)
    else:
        assert found.recovered is False
        assert given_offsets == expected[: len(given_offsets)]
        assert all(offset is not None and offset < lost for offset in given_offsets)
