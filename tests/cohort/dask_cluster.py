"""A Dask scheduler in this process, and workers that are processes of their own and begin in no time."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from srh_clinic.cohort.running import LOADED


class Workers:
    """Worker processes of one scheduler."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*LOADED, "distributed"])
        self._processes: list[ForkServerProcess] = []

    def begin(self, version: str = "") -> None:
        """One more; it says that ``version`` of this package is installed."""
        process = self._context.Process(target=_serve, args=(self.address, self.folder, version), daemon=True)
        process.start()
        self._processes.append(process)

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
        begun = Workers(scheduler.scheduler_address, folder)
        try:
            for _ in range(workers):
                begun.begin()
            yield begun
        finally:
            begun.end()


def _serve(address: str, folder: Path, version: str) -> None:
    from distributed import Worker

    if version:
        from importlib import metadata

        metadata.version = lambda name: version

    async def serve() -> None:
        async with Worker(address, nthreads=1, local_directory=str(folder), dashboard=False, death_timeout=60) as worker:
            await worker.finished()

    asyncio.run(serve())
