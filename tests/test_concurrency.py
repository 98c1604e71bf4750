"""Work in threads: beside each other, and ahead of what uses it."""

import threading
import time

import pytest

from srh_clinic.concurrency import begin, read_ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads):
    def work(number, name):
        time.sleep(0.02 * (number == 0))
        return name * number

    assert begin(work, range(4), "abcd", threads=threads)() == ["", "b", "cc", "ddd"]
    assert begin(work, [], [], threads=threads)() == []


def test_what_work_raises_is_raised_and_the_pool_goes_on():
    def work(number):
        if number == 1:
            raise ValueError("one")
        return number

    with pytest.raises(ValueError, match="one"):
        begin(work, range(3), threads=2)()
    assert begin(work, [2, 3], threads=2)() == [2, 3]


def test_work_begins_before_the_end_is_asked_for():
    started = threading.Event()
    end = begin(lambda _: started.set(), [0, 1], threads=2)
    assert started.wait(10)
    assert end() == [None, None]


def test_items_read_ahead_keep_their_order_and_no_more_are_taken_than_said():
    taken = []

    def source():
        for number in range(50):
            taken.append(number)
            yield number

    ahead = read_ahead(source(), 3)
    assert next(ahead) == 0
    time.sleep(0.3)
    assert len(taken) <= 6  # one in use, three ready, one that waits for room
    assert list(ahead) == list(range(1, 50))


def test_what_the_source_raises_comes_in_its_turn():
    def source():
        yield 1
        raise OSError("torn")

    ahead = read_ahead(source())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="torn"):
        next(ahead)


def test_the_thread_ends_when_nobody_goes_on():
    before = set(threading.enumerate())
    ahead = read_ahead(iter(range(1000)), 2)
    next(ahead)
    ahead.close()
    assert set(threading.enumerate()) == before
