"""A Dask scheduler in this process, and workers that are processes of their own and begin in no time."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING

from many_cases import draw_nothing_for_a_while

from srh_clinic.cohort.running import LOADED

if TYPE_CHECKING:
    from distributed import LocalCluster


class Workers:
    """Worker processes of one scheduler."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.address, self.folder = cluster.scheduler_address, folder
        self._known = cluster.scheduler.workers
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*LOADED, "distributed"])
        self._processes: list[ForkServerProcess] = []

    def begin(self, version: str = "") -> None:
        """One more, once the scheduler knows it; it says that ``version`` of this package is installed."""
        before = set(self._known)
        process = self._context.Process(target=_serve, args=(self.address, self.folder, version), daemon=True)
        process.start()
        self._processes.append(process)
        deadline = time.monotonic() + 120
        while not set(self._known) - before and time.monotonic() < deadline:
            time.sleep(0.05)

    def kill(self, place: int = 0) -> None:
        """SIGKILL for one of them, the oldest by default."""
        process = self._processes.pop(place)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()

    def end(self) -> None:
        """All of them."""
        while self._processes:
            self.kill()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Workers]:
    """A scheduler on loopback with so many workers of one thread each; ``folder`` is for their files."""
    from distributed import LocalCluster

    options = {"processes": False, "n_workers": 0, "dashboard_address": None, "host": "127.0.0.1", "protocol": "tcp"}
    with LocalCluster(**options) as scheduler:
        begun = Workers(scheduler, folder)
        try:
            for _ in range(workers):
                begun.begin()
            yield begun
        finally:
            begun.end()


def _serve(address: str, folder: Path, version: str) -> None:
    from distributed import Worker

    draw_nothing_for_a_while()
    if version:
        from importlib import metadata

        metadata.version = lambda name: version

    async def serve() -> None:
        async with Worker(address, nthreads=1, local_directory=str(folder), dashboard=False, death_timeout=60) as worker:
            await worker.finished()

    asyncio.run(serve())
