"""Work in threads that nothing waits for: images beside each other, and reading ahead of what uses it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 16
"""Things that :func:`read_ahead` holds ready at most."""

PATIENCE = 0.1
"""Seconds after which a thread that waits for room looks whether anybody still wants what it has."""


def begin(work: Callable[..., R], *items: Iterable[Any], threads: int) -> Callable[[], list[R]]:
    """Begin ``work`` on each of some items, as :func:`map` calls it, in up to ``threads`` threads.

    With one thread, or for one item, nothing begins before the end is asked for, and all is done in the caller's own.

    Returns
    -------
    A function that waits for the end and gives what came of each, in their order; it raises what the first of them raised.
    """
    calls = list(zip(*items, strict=True))
    if min(threads, len(calls)) <= 1:
        return lambda: [work(*call) for call in calls]
    pool = _pool(os.getpid(), threads)
    begun: list[Future[R]] = [pool.submit(work, *call) for call in calls]

    def end() -> list[R]:
        try:
            return [one.result() for one in begun]
        finally:
            for one in begun:
                one.cancel()

    return end


def read_ahead(items: Iterable[T], ahead: int = AHEAD) -> Iterator[T]:
    """The same items in the same order, taken from their source by a thread of its own, at most ``ahead`` before their use.

    What the source raises is raised here in its turn. When nobody goes on, the thread ends after the item that it is at.
    """
    queue: Queue[tuple[bool, Any]] = Queue(ahead)
    over = Event()

    def offer(said: tuple[bool, Any]) -> bool:
        while not over.is_set():
            try:
                queue.put(said, timeout=PATIENCE)
            except Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not offer((True, item)):
                    return
        except BaseException as error:
            offer((False, error))
        else:
            offer((False, None))

    thread = Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            going, said = queue.get()
            if going:
                yield said
            elif said is None:
                return
            else:
                raise said
    finally:
        over.set()
        thread.join()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"side-by-side-{process}")
