"""A cohort whose workers are killed at random, compared with one that nobody disturbed.

::

    make kill-workers                                        # from the root: 200 cases, the shards of 1, 2 and 7, the ratio
    cd tests && python killing_workers.py --cases 20 --every 5 --shards 3 --ratio 8

Cases are small, networks very small, and no picture is drawn, to have more kills an hour. Every few seconds the process that
holds one of the cases gets SIGKILL, and the state is asked for as ``cohort status`` asks. At the end each case must have been
done exactly once, and every file must be that of the undisturbed run, but for times. Printed too: what the ledger takes of a
run, and how long two workers take beside one, each in this very call, with the load of the machine.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "cohort"))
from many_cases import contents, kill_one, times_done, write_cases
from tiny_networks import save_tiny_bundle

from srh_clinic.cohort import running
from srh_clinic.cohort.cases import Listed, Shard, list_cases
from srh_clinic.cohort.ledger import Entry, Ledger, count_states
from srh_clinic.cohort.running import Seen, ledger_file, run_cohort
from srh_clinic.cohort.settings import CASES, CaseSettings
from srh_clinic.cohort.telling import write_results

WHOLE = Shard()


class Killer:
    """Watches a run, kills a worker that has a case in hand every so many seconds, and looks at the state."""

    def __init__(self, every: float, seed: int, cases: int) -> None:
        self.every, self.cases, self.rng = every, cases, random.Random(seed)
        self.next, self.kills, self.wrong = time.monotonic() + every, 0, 0

    def __call__(self, seen: Seen, ledger: Ledger) -> None:
        """See :func:`srh_clinic.cohort.running.run_cohort`."""
        with Ledger(ledger.path, read=True) as beside:
            counts = count_states(beside.entries())
        self.wrong += sum(counts.values()) != self.cases or counts["parked"] + counts["failed"] > 0 or counts["running"] > 2
        if time.monotonic() >= self.next and kill_one(ledger):
            self.kills += 1
            self.next = time.monotonic() + self.every * self.rng.uniform(0.5, 1.5)


def run(
    cases: list[Listed], out: Path, settings: CaseSettings, shard: Shard = WHOLE, killer: Killer | None = None
) -> list[Entry]:
    """A run of the cases of a shard with its table, by two workers."""
    mine = [case for case in cases if case in shard]
    watch = {} if killer is None else {"watch": killer, "deaths": 1_000_000}
    entries = run_cohort(mine, settings, out, shard=shard, workers=2, **watch)  # type: ignore[arg-type]
    write_results(cases, shard, entries, out, out / CASES)
    return entries


def killed(cases: list[Listed], settings: CaseSettings, work: Path, asked: argparse.Namespace) -> bool:
    """The undisturbed run and the one whose workers are killed; whether they are the same."""
    plain = run(cases, work / "plain", settings)
    killer = Killer(asked.every, asked.seed, len(cases))
    entries = run(cases, work / "killed", settings, killer=killer)
    once = set(times_done(ledger_file(work / "killed", WHOLE)).values()) == {1}
    same = contents(work / "plain") == contents(work / "killed")
    attempts = sum(entry.attempts for entry in entries)
    done = sum(entry.state == "done" for entry in entries)
    print(f"{done} of {len(cases)} cases done, each exactly once: {once}; same bytes: {same}; {killer.kills} kills, ", end="")
    print(f"{attempts} attempts, state wrong {killer.wrong} times", flush=True)
    ledger_seconds = ledger_takes(work / "timed", cases)
    seconds = sum(entry.seconds for entry in plain) / len(plain)
    print(f"ledger: {1e3 * ledger_seconds:.1f} ms a case of {seconds:.2f} s, {ledger_seconds / seconds:.2%}", flush=True)
    return once and same and not killer.wrong and done == len(cases)


def ledger_takes(folder: Path, cases: list[Listed]) -> float:
    """Seconds that the ledger takes for a case: claim, two renewals, finish, on the disk of the run."""
    folder.mkdir()
    with Ledger(folder / "ledger.sqlite") as ledger:
        ledger.enrol([case.enrolled() for case in cases])
        began = time.perf_counter()
        while (claim := ledger.claim()) is not None:
            ledger.renew(claim, "restoring")
            ledger.renew(claim, "restoring")
            ledger.finish(claim, "computed", "p" * 64, "o" * 64)
        return (time.perf_counter() - began) / len(cases)


def sharded(cases: list[Listed], settings: CaseSettings, work: Path, parts: int) -> bool:
    """Whether shards, one after the other, leave what the undisturbed run has left."""
    for number in range(1, parts + 1):
        run(cases, work / f"shards-{parts}", settings, Shard(number, parts))
    same = contents(work / "plain") == contents(work / f"shards-{parts}")
    print(f"{parts} shards, same bytes: {same}", flush=True)
    return same


def ratio(cases: list[Listed], settings: CaseSettings, work: Path) -> None:
    """Time of one worker with all cores and of two with half of them each, in turn, from the first claim on."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(4):
        workers = 1 + turn % 2
        began: list[float] = []

        def first(seen: Seen, ledger: Ledger, began: list[float] = began) -> None:
            if seen.running and not began:
                began.append(time.monotonic())

        run_cohort(cases, settings, work / f"ratio-{turn}", workers=workers, watch=first)
        seconds[workers].append(time.monotonic() - began[0])
    one, two = (min(of) for of in seconds.values())
    print(
        f"{len(cases)} cases: one worker {one:.1f} s, two {two:.1f} s, {one / two:.2f} times as fast; load {os.getloadavg()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--shards", type=int, nargs="*", default=[1, 2, 7], help="numbers of parts to compare")
    parser.add_argument("--ratio", type=int, default=16, help="cases by one worker and by two; 0 for none")
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    running.LOADED += ("draws_little",)
    with tempfile.TemporaryDirectory(prefix="srh-clinic-workers-") as folder:
        work = Path(folder)
        cases = list_cases(write_cases(work / "images", asked.cases, edge=200))
        bundle = save_tiny_bundle(work / "tiny")
        settings = CaseSettings(bundle=str(bundle), device="cpu", restoring={"precision": "float32"})
        good = killed(cases, settings, work, asked)
        good &= not [parts for parts in asked.shards if not sharded(cases, settings, work, parts)]
        if asked.ratio:
            ratio(cases[: asked.ratio], settings, work)
    sys.exit(not good)


if __name__ == "__main__":
    main()
