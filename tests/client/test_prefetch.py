import threading

import pytest

from fedcmp.client.prefetch import Ahead


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_items_come_in_order_whatever_the_depth(depth):
    with Ahead(lambda number: number * 2, 20, depth=depth) as items:
        assert list(items) == list(range(0, 40, 2))


def test_without_depth_there_is_no_thread():
    made_by = []
    with Ahead(lambda _number: made_by.append(threading.current_thread()), 3, depth=0) as items:
        next(items)
        assert made_by == [threading.current_thread()]
        list(items)
    assert set(made_by) == {threading.current_thread()}


def test_the_next_item_is_made_while_one_is_used():
    second = threading.Event()
    with Ahead(lambda number: second.set() if number == 1 else None, 5, depth=1) as items:
        next(items)
        assert second.wait(10)


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_is_raised_where_its_item_was_due(depth):
    def make(number):
        if number == 2:
            raise ValueError("third")
        return number

    with Ahead(make, 5, depth=depth) as items:
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(ValueError, match="third"):
            next(items)


def test_closing_early_ends_the_thread():
    before = threading.active_count()
    items = Ahead(lambda number: number, 1000, depth=2)
    assert next(items) == 0
    items.close()
    assert threading.active_count() == before
    assert list(items) == []
