"""A cohort whose workers are killed at random, compared with one that nobody disturbed.

::

    make kill-workers                                        # from the root: 200 cases, shards of 1, 2 and 7, Dask
    cd tests && python killing_workers.py --cases 20 --every 5 --shards 3
    make two-workers                                         # 16 cases by one worker and by two, and their ledger

Cases are small, networks very small, and no picture is drawn, to have more kills an hour. Every few seconds the process that
holds one of the cases gets SIGKILL, and the state is asked for as ``cohort status`` asks. At the end each case must have been
done exactly once, and every file must be that of the undisturbed run, but for times. On a machine that is busy with other
work ``--every`` has to leave a worker time to begin and to do a case. ``--ratio N`` times instead N cases by one worker and by
two with the demonstration networks, and what they take in the ledger, each in this very call, with the load of the machine.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent / "cohort"))
from dask_cluster import Workers, cluster
from many_cases import contents, kill_one, times_done, write_cases
from times_ledger import ledger_seconds
from tiny_networks import save_tiny_bundle

from srh_clinic.cohort import running
from srh_clinic.cohort.cases import Listed, Shard, list_cases
from srh_clinic.cohort.ledger import Entry, Ledger, count_states
from srh_clinic.cohort.running import Seen, ledger_file, run_cohort
from srh_clinic.cohort.settings import CASES, CaseSettings
from srh_clinic.cohort.telling import write_results

WHOLE = Shard()


class Killer:
    """Watches a run, kills a worker every so many seconds, and looks at the state; of a cluster, one of ``dask``'s."""

    def __init__(self, every: float, seed: int, cases: int, dask: Workers | None = None) -> None:
        self.every, self.cases, self.rng, self.dask = every, cases, random.Random(seed), dask
        self.next, self.kills, self.wrong = time.monotonic() + every, 0, 0

    def __call__(self, seen: Seen, ledger: Ledger) -> None:
        """See :func:`srh_clinic.cohort.running.run_cohort`."""
        with Ledger(ledger.path, read=True) as beside:
            counts = count_states(beside.entries())
        self.wrong += sum(counts.values()) != self.cases or counts["parked"] + counts["failed"] > 0 or counts["running"] > 2
        if time.monotonic() >= self.next and self.kill(seen, ledger):
            self.kills += 1
            self.next = time.monotonic() + self.every * self.rng.uniform(0.5, 1.5)

    def kill(self, seen: Seen, ledger: Ledger) -> bool:
        """End a worker that has a case in hand; whether there was one."""
        if self.dask is None:
            return kill_one(ledger)
        if not seen.running:
            return False
        self.dask.kill()
        self.dask.begin()
        return True


def run(
    cases: list[Listed],
    out: Path,
    settings: CaseSettings,
    shard: Shard = WHOLE,
    killer: Killer | None = None,
) -> list[Entry]:
    """A run of the cases of a shard with its table, by two workers."""
    mine = [case for case in cases if case in shard]
    how: dict[str, object] = {} if killer is None else {"watch": killer, "deaths": 1_000_000}
    if killer is not None and killer.dask is not None:
        how["scheduler"] = killer.dask.address
    entries = run_cohort(mine, settings, out, shard=shard, workers=2, **how)  # type: ignore[arg-type]
    write_results(cases, shard, entries, out, out / CASES)
    return entries


def killed(cases: list[Listed], out: Path, settings: CaseSettings, plain: Path, killer: Killer) -> bool:
    """A run whose workers are killed; whether every case was done once, with the bytes of the undisturbed run."""
    began = time.monotonic()
    entries = run(cases, out, settings, killer=killer)
    once = times_done(ledger_file(out, WHOLE)) == {case.name: 1 for case in cases}
    same = contents(plain) == contents(out)
    print(
        f"{'workers here' if killer.dask is None else 'Dask workers'}: {sum(entry.state == 'done' for entry in entries)} of "
        f"{len(cases)} cases done, each exactly once: {once}; same bytes: {same}; {killer.kills} kills, "
        f"{sum(entry.attempts for entry in entries)} attempts, state wrong {killer.wrong} times; "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    return once and same and not killer.wrong


def sharded(cases: list[Listed], settings: CaseSettings, work: Path, parts: int) -> bool:
    """Whether shards, one after the other, leave what the undisturbed run has left."""
    began, out = time.monotonic(), work / f"shards-{parts}"
    for number in range(1, parts + 1):
        run(cases, out, settings, Shard(number, parts))
    same = contents(work / "plain") == contents(out)
    print(f"{parts} shards, same bytes: {same}; {time.monotonic() - began:.0f} s", flush=True)
    return same


def ratio(cases: list[Listed], settings: CaseSettings, work: Path) -> None:
    """Time of one worker with all cores, of two with half of them each, and of one of one thread, from the first claim on."""
    kinds = {
        "one worker with all cores": (1, running.cores()),
        "two workers": (2, running.cores()),
        "one of one thread": (1, 1),
    }
    best: dict[str, float] = {}
    for turn in range(2):
        for kind, (workers, cores) in kinds.items():
            began: list[float] = []

            def first(seen: Seen, ledger: Ledger, began: list[float] = began) -> None:
                if seen.running and not began:
                    began.append(time.monotonic())

            out = work / f"ratio-{turn}-{workers}-{cores}"
            with mock.patch.object(running, "cores", lambda cores=cores: cores):
                entries = run_cohort(cases, settings, out, workers=workers, watch=first)
            taken = time.monotonic() - began[0]
            told = ledger_seconds(out)
            share = told / (sum(entry.seconds for entry in entries) + told)
            print(f"{kind}: {taken:.1f} s; {1e3 * told / len(cases):.1f} ms a case in the ledger, {share:.2%}", flush=True)
            best[kind] = min(taken, best.get(kind, taken))
    one, two, thread = best.values()
    print(f"{len(cases)} cases: two workers are {one / two:.2f} times as fast as one with all cores, ", end="")
    print(f"{thread / two:.2f} times as one of one thread; load {os.getloadavg()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--shards", type=int, nargs="*", default=[1, 2, 7], help="numbers of parts to compare")
    parser.add_argument("--no-dask", action="store_true", help="leave the cluster out")
    parser.add_argument("--ratio", type=int, default=0, metavar="N", help="time N cases by one worker and by two instead")
    parser.add_argument("--edge", type=int, default=200, help="pixels of a case's side")
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(prefix="srh-clinic-workers-") as folder:
        work = Path(folder)
        cases = list_cases(write_cases(work / "images", asked.ratio or asked.cases, edge=asked.edge))
        if asked.ratio:
            running.LOADED += ("times_ledger",)
            ratio(cases, CaseSettings(device="cpu", restoring={"precision": "float32"}), work)
            return
        running.LOADED += ("draws_little",)
        settings = CaseSettings(bundle=str(save_tiny_bundle(work / "tiny")), device="cpu", restoring={"precision": "float32"})
        began = time.monotonic()
        run(cases, work / "plain", settings)
        print(f"{len(cases)} cases undisturbed; {time.monotonic() - began:.0f} s", flush=True)
        good = killed(cases, work / "killed", settings, work / "plain", Killer(asked.every, asked.seed, len(cases)))
        good &= not [parts for parts in asked.shards if not sharded(cases, settings, work, parts)]
        if not asked.no_dask:
            with cluster(work, 2) as dask:
                killer = Killer(asked.every, asked.seed, len(cases), dask)
                good &= killed(cases, work / "dask", settings, work / "plain", killer)
    sys.exit(not good)


if __name__ == "__main__":
    main()
