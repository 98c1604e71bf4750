"""The ledger of many cases: an SQLite file in which each case has one state, and moves by transactions.

::

                claim                  finish
    waiting  ----------->  running  ----------->  done
       ^     <-----------     |
       |      hand back,      |  park (its input is wrong), fail (a defect of ours)
       |      take back       v
       +-----------------  parked, failed
              retry

A claim has a token and a lease that its owner renews. Whoever is gone, or lets the lease run out, loses the case, and what it
says of it later is not taken: of all that work on a case, one says that it is done. The file is one machine's (SQLite's
write-ahead log is shared by memory); several machines have a ledger each, see :mod:`srh_clinic.cohort.cases`.
"""

from __future__ import annotations

import errno
import json
import secrets
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from srh_clinic.cohort.owner import is_elsewhere, is_gone, this_process
from srh_clinic.cohort.schema import PATIENCE, opened
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint

State = Literal["waiting", "running", "done", "parked", "failed"]
STATES: tuple[State, ...] = get_args(State)

ENDED: tuple[State, ...] = ("done", "parked", "failed")
"""States that a case stays in until somebody asks for more."""

MOVES: frozenset[tuple[State, State]] = frozenset(
    {
        ("waiting", "running"),
        ("waiting", "parked"),  # what arrived is no case, and no worker need look at it
        ("running", "done"),
        ("running", "parked"),
        ("running", "failed"),
        ("running", "waiting"),
        ("done", "waiting"),  # its files are others now, or its outputs are gone
        ("parked", "waiting"),
        ("failed", "waiting"),
    }
)

LEASE = 60.0
"""Seconds for which a claim holds without being renewed."""

AHEAD = 2 * LEASE
"""Seconds by which no claim or wait lies ahead, but where the clock was set back: it would hold for as long as that."""

RENEWED = 6
"""Times that a claim is renewed within its lease."""

DEATHS = 5
"""Workers that may die on a case before it is parked: one that takes too much memory would otherwise kill them for ever."""

BEAT = 15.0
"""Seconds between two times that whoever watches a run says so."""

WHOLE = "the whole ledger of a cohort run; without it the run's own call makes it again of the results that stand there"
"""What is needed in the place of a damaged one."""


@dataclass(frozen=True)
class Enrolled:
    """A case as it comes into the ledger.

    Attributes
    ----------
    name
        What logs, metrics and folders call it: says nothing of whose it is.
    source
        Its file or folder, or the files of its channels.
    files
        Changes when a file of it does.
    """

    name: str
    source: tuple[str, ...]
    files: str


@dataclass(frozen=True)
class Claim:
    """A case that this process has in hand."""

    name: str
    source: tuple[str, ...]
    token: str
    attempt: int
    began: float


@dataclass(frozen=True)
class Entry:
    """What the ledger says of a case now.

    ``kind`` says in one word of ours why it is in its state, ``why`` in words that may name files; ``seconds`` are of the
    attempt that finished it; ``pixels`` and ``outputs`` are SHA-256 of the counts that were read and of all files written.
    """

    name: str
    place: int
    source: tuple[str, ...]
    state: State
    attempts: int
    began: float
    stage: str
    kind: str
    why: str
    seconds: float
    pixels: str
    outputs: str
    changed: float


@dataclass(frozen=True)
class Move:
    """A line of a case's history; of the first, ``was`` is empty."""

    number: int
    at: float
    name: str
    was: str
    state: State
    attempt: int
    kind: str
    why: str
    seconds: float


class Ledger:
    """A ledger, open in one thread of one process; closes as a context.

    Parameters
    ----------
    path
        The file, made when there is none unless it is only ``read``.
    lease, deaths
        See :data:`LEASE` and :data:`DEATHS`.

    Raises
    ------
    InputError
        When it is no ledger, is of another version, is damaged, which is looked for when it is only ``read``, or cannot be
        read or written.
    OSError
        ENOSPC when the disk is full, from this and every other call that writes; what was written before stands.
    """

    def __init__(self, path: Path, *, read: bool = False, lease: float = LEASE, deaths: int = DEATHS) -> None:
        self.path, self.lease, self.deaths = path, lease, deaths
        self.owner = this_process()
        self._beaten = float("-inf")
        if read and not path.is_file():
            raise InputError("no ledger", "the folder of a cohort run", path)
        with self._told():
            self._db = opened(path, read=read)
        if read:
            self.require_whole()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def require_whole(self) -> None:
        """Read all of it; ``InputError`` when it is damaged."""
        with self._told():
            (said,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise self._damaged(said)
        self.entries()

    def beat(self, what: str = "run") -> None:
        """Say that a ``run``, or one that ``listens``, watches over these cases now; noted every :data:`BEAT` seconds."""
        if time.monotonic() - self._beaten >= BEAT:
            with self.transaction():
                self._say("beat", {"what": what, "at": time.time(), "owner": self.owner})
            self._beaten = time.monotonic()

    def watched(self, within: float) -> tuple[str, bool]:
        """What last watched over these cases, nothing if nothing did, and whether it lives and said so ``within`` seconds."""
        said = self._said("beat") or {"what": "", "at": 0.0, "owner": ""}
        return said["what"], abs(time.time() - said["at"]) <= within and not is_gone(said["owner"])

    def adopt(self, settings: dict[str, Any]) -> None:
        """Note what every case of this ledger is made with, or refuse what differs from it.

        Raises
        ------
        InputError
            When cases were enrolled for other settings; it names the first that differ.
        """
        said = json.loads(json.dumps(settings, sort_keys=True, default=str))
        with self.transaction():
            known = self._said("settings")
            if known is None:
                self._say("settings", said)
                return
        differ = sorted(name for name in {*known, *said} if known.get(name) != said.get(name))
        if differ:
            found = f"another {', another '.join(differ[:3])} than the cases here were begun with"
            raise InputError(found, "the same as before, or another --out", self.path.parent)

    @property
    def settings(self) -> str:
        """The name of what every case is made with; empty before a worker has said it."""
        known = self._said("settings")
        return "" if known is None else fingerprint(**known)

    def enrol(self, cases: Iterable[Enrolled], outputs_of: Collection[str] | None = None) -> int:
        """Take cases in that are not there yet; those that are done wait again when their files have changed.

        Parameters
        ----------
        outputs_of
            Names of cases whose outputs are there; one that is done and not among them waits again. None trusts all.

        Returns
        -------
        How many are new.
        """
        new, now = 0, time.time()
        with self.transaction():
            known = {row["name"]: row for row in self._db.execute("SELECT name, state, files, attempts FROM cases")}
            for case in cases:
                row = known.get(case.name)
                if row is None:
                    self._insert(case, len(known) + new, now)
                    new += 1
                    continue
                changed = row["files"] != case.files
                if changed or row["state"] != "done":
                    self._db.execute(
                        "UPDATE cases SET files = ?, source = ? WHERE name = ?",
                        (case.files, json.dumps(case.source), case.name),
                    )
                if changed and row["state"] in ENDED:
                    self._move(case.name, row["state"], "waiting", "changed", deaths=0)
                elif row["state"] == "done" and outputs_of is not None and case.name not in outputs_of:
                    self._move(case.name, "done", "waiting", "outputs-gone", deaths=0)
        return new

    def turn_away(self, case: Enrolled, kind: str, why: str) -> bool:
        """Park what arrived and is no case; False when that is known, or a worker has it, has done it or is to do it."""
        with self.transaction() as db:
            row = db.execute("SELECT state, files, kind FROM cases WHERE name = ?", (case.name,)).fetchone()
            if row is None:
                place = db.execute("SELECT COUNT(*) FROM cases").fetchone()[0]
                self._insert(case, place, time.time())
            elif row["state"] not in ("parked", "failed") or (row["files"], row["kind"]) == (case.files, kind):
                return False
            else:
                db.execute(
                    "UPDATE cases SET files = ?, source = ? WHERE name = ?", (case.files, json.dumps(case.source), case.name)
                )
                self._move(case.name, row["state"], "waiting", "changed", deaths=0)
            self._move(case.name, "waiting", "parked", kind, why=why)
        return True

    def withdraw(self, name: str, kind: str, why: str) -> bool:
        """Park a case that nobody wants any more, also one that a worker has and then loses; False when it is at an end."""
        with self.transaction() as db:
            row = db.execute("SELECT state FROM cases WHERE name = ?", (name,)).fetchone()
            if row is None or row["state"] in ENDED:
                return False
            self._move(name, row["state"], "parked", kind, why=why)
        return True

    def readmit(self, name: str, kinds: Collection[str]) -> None:
        """Let a case that was parked for one of these reasons wait again."""
        with self.transaction() as db:
            row = db.execute("SELECT kind FROM cases WHERE name = ? AND state = 'parked'", (name,)).fetchone()
            if row is not None and row["kind"] in kinds:
                self._move(name, "parked", "waiting", "retried", deaths=0)

    def state_of(self, name: str) -> State | None:
        """The state of a case as it was noted; None of one that is not there."""
        with self.reading() as db:
            row = db.execute("SELECT state FROM cases WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def remark(self, name: str, kind: str) -> None:
        """Note in the history of a case that is done what became of its results, within a transaction."""
        attempt = self._db.execute("SELECT attempts FROM cases WHERE name = ?", (name,)).fetchone()[0]
        self._note(name, "done", "done", attempt, kind, now=time.time())

    def claim(self) -> Claim | None:
        """Take the next case that waits; None when there is none now. Cases whose owner is gone are taken back first."""
        with self.transaction():
            now = time.time()
            self._take_back(now)
            row = self._db.execute(
                "SELECT name, source, attempts FROM cases WHERE state = 'waiting' AND until NOT BETWEEN ? AND ? "
                "ORDER BY place LIMIT 1",
                (now, now + AHEAD),
            ).fetchone()
            if row is None:
                return None
            token, attempt = secrets.token_hex(8), row["attempts"] + 1
            held = {"owner": self.owner, "token": token, "until": now + self.lease, "attempts": attempt, "began": now}
            self._move(row["name"], "waiting", "running", "claimed", stage="", **held)
        return Claim(row["name"], tuple(json.loads(row["source"])), token, attempt, now)

    def renew(self, claim: Claim, stage: str = "") -> bool:
        """Hold a claim for another lease, and say how far it is; False when it is lost."""
        with self._told():
            held = (time.time() + self.lease, stage, claim.name, claim.token)
            done = self._db.execute("UPDATE cases SET until = ?, stage = ? WHERE name = ? AND token = ?", held)
            return done.rowcount == 1

    def finish(self, claim: Claim, kind: str, pixels: str, outputs: str) -> bool:
        """A case is done, and all of it is on the disk; False when the claim was lost, and then nothing is noted."""
        seconds = max(0.0, time.time() - claim.began)
        return self._end(claim, "done", kind, "", seconds=seconds, pixels=pixels, outputs=outputs, deaths=0)

    def park(self, claim: Claim, kind: str, why: str) -> bool:
        """A case cannot be done as it is, and somebody must look at it; False when the claim was lost."""
        return self._end(claim, "parked", kind, why)

    def fail(self, claim: Claim, kind: str, why: str) -> bool:
        """A defect of ours ended the attempt; False when the claim was lost."""
        return self._end(claim, "failed", kind, why)

    def hand_back(self, claim: Claim, kind: str, wait: float = 0.0) -> bool:
        """Leave a case to whoever comes, after so many seconds; False when the claim was lost."""
        return self._end(claim, "waiting", kind, "", until=time.time() + wait)

    def lose(self, claim: Claim) -> bool:
        """Whoever worked on a case for this process has died: as :meth:`take_back`; False when the claim was lost."""
        with self.transaction():
            row = self._db.execute(
                "SELECT name, deaths FROM cases WHERE name = ? AND state = 'running' AND token = ?", (claim.name, claim.token)
            ).fetchone()
            if row is not None:
                self._lose(row)
        return row is not None

    def take_back(self) -> None:
        """Let cases wait again whose owner is gone or has not renewed its claim; park those that :attr:`deaths` died on."""
        with self.transaction():
            self._take_back(time.time())

    def retry(self, names: Collection[str] | None = None) -> list[str]:
        """Let cases wait again that are parked or failed, and results that were refused go out again; their names.

        Raises
        ------
        InputError
            When one that is named is not there.
        """
        with self.transaction():
            states = {row["name"]: row["state"] for row in self._db.execute("SELECT name, state FROM cases ORDER BY place")}
            if unknown := sorted(set(names or ()) - set(states)):
                raise InputError(f"no case {unknown[0]!r}", "a name that status lists", self.path.parent)
            again = [
                name for name, state in states.items() if state in ("parked", "failed") and (names is None or name in names)
            ]
            for name in again:
                self._move(name, states[name], "waiting", "retried", deaths=0)
            refused = [row[0] for row in self._db.execute("SELECT name FROM deliveries WHERE state = 'refused' ORDER BY name")]
            undelivered = [name for name in refused if names is None or name in names]
            self._db.executemany("DELETE FROM deliveries WHERE name = ? AND state = 'refused'", [(n,) for n in undelivered])
        return [*again, *(name for name in dict.fromkeys(undelivered) if name not in again)]

    def open_cases(self) -> int:
        """How many cases are not at an end."""
        with self._told():
            count = "SELECT COUNT(*) FROM cases WHERE state IN ('waiting', 'running')"
            return int(self._db.execute(count).fetchone()[0])

    def overview(self) -> tuple[dict[State, int], list[Entry]]:
        """How many cases are in each state now, and those that are running; as :meth:`entries` says it, and fast."""
        now = time.time()
        counted: dict[State, int] = dict.fromkeys(STATES, 0)
        with self._told(), self._snapshot():
            for row in self._db.execute("SELECT state, COUNT(*) FROM cases GROUP BY state"):
                counted[row[0]] = row[1]
            rows = self._db.execute("SELECT * FROM cases WHERE state = 'running' ORDER BY place").fetchall()
            running = [entry for row in rows if (entry := _entry(row, now)).state == "running"]
        counted["waiting"] += len(rows) - len(running)
        counted["running"] = len(running)
        return counted, running

    def asked(self) -> Any:
        """What the run before was asked for in its user's words; None when there was none."""
        return self._said("asked")

    def ask(self, for_what: Any) -> None:
        """Note what a run was asked for, once it is known that its settings are those of the ledger."""
        with self.transaction():
            self._say("asked", for_what)

    def entries(self) -> list[Entry]:
        """All cases in the order in which they came. One whose owner is gone is said to wait, as it will when it is taken."""
        now = time.time()
        with self._told():
            return [_entry(row, now) for row in self._db.execute("SELECT * FROM cases ORDER BY place")]

    def history(self, name: str | None = None, after: int = 0) -> list[Move]:
        """What became of a case, or of all, from the first move to the last, beyond the move ``after``."""
        where, given = ("AND name = ?", (after, name)) if name is not None else ("", (after,))
        with self._told():
            rows = self._db.execute(f"SELECT * FROM history WHERE number > ? {where} ORDER BY number", given)  # noqa: S608
            return [Move(**dict(row)) for row in rows]

    def moves(self) -> int:
        """How many moves there have been, of all cases."""
        with self._told():
            return int(self._db.execute("SELECT COALESCE(MAX(number), 0) FROM history").fetchone()[0])

    def logged(self) -> int:
        """Number of the last move that a log has; see :meth:`log_up_to`."""
        return int(self._said("logged") or 0)

    def log_up_to(self, number: int) -> None:
        """Note that a log has every move up to this one."""
        with self.transaction():
            self._say("logged", number)

    def _insert(self, case: Enrolled, place: int, now: float) -> None:
        given = (case.name, place, json.dumps(case.source), case.files, now)
        self._db.execute(
            "INSERT INTO cases (name, place, source, files, state, changed) VALUES (?, ?, ?, ?, 'waiting', ?)", given
        )
        self._note(case.name, "", "waiting", 0, "enrolled", now=now)

    def _take_back(self, now: float) -> None:
        for row in self._db.execute("SELECT name, owner, until, deaths FROM cases WHERE state = 'running'").fetchall():
            if _is_lost(row, now):
                self._lose(row)

    def _lose(self, row: sqlite3.Row) -> None:
        deaths = row["deaths"] + 1
        if deaths >= self.deaths:
            why = f"{deaths} workers died or stood still on it; it may need more memory than there is"
            self._move(row["name"], "running", "parked", "worker-died", why=why, deaths=deaths)
        else:
            self._move(row["name"], "running", "waiting", "taken-back", deaths=deaths)

    def _end(self, claim: Claim, state: State, kind: str, why: str, **columns: Any) -> bool:
        with self.transaction():
            held = self._db.execute(
                "SELECT 1 FROM cases WHERE name = ? AND state = 'running' AND token = ?", (claim.name, claim.token)
            ).fetchone()
            if held is None:
                return False
            self._move(claim.name, "running", state, kind, why=why, **columns)
        return True

    def _move(self, name: str, was: State, state: State, kind: str, *, why: str = "", **columns: Any) -> None:
        """One step of a case within a transaction; a step that there is none of is a defect."""
        why = why.encode(errors="backslashreplace").decode()  # a file's name may be no text
        if (was, state) not in MOVES:
            raise AssertionError(f"a case cannot move from {was} to {state}")
        now = time.time()
        free = {} if state == "running" else {"owner": "", "token": "", "stage": "", "until": 0.0}
        values = {"state": state, "kind": kind, "why": why, "changed": now, **free, **columns}
        sets = ", ".join(f"{column} = ?" for column in values)
        done = self._db.execute(f"UPDATE cases SET {sets} WHERE name = ? AND state = ?", (*values.values(), name, was))  # noqa: S608
        if done.rowcount != 1:
            raise AssertionError(f"the case {name} was not {was}")
        attempt = self._db.execute("SELECT attempts FROM cases WHERE name = ?", (name,)).fetchone()[0]
        self._note(name, was, state, attempt, kind, why, columns.get("seconds", 0.0), now)

    def _note(
        self, name: str, was: str, state: State, attempt: int, kind: str, why: str = "", seconds: float = 0.0, now: float = 0.0
    ) -> None:
        self._db.execute(
            "INSERT INTO history (at, name, was, state, attempt, kind, why, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (now, name, was, state, attempt, kind, why, seconds),
        )

    def _said(self, name: str) -> Any:
        with self._told():
            row = self._db.execute("SELECT value FROM said WHERE name = ?", (name,)).fetchone()
            return None if row is None else json.loads(row[0])

    def _say(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO said VALUES (?, ?)", (name, json.dumps(value, sort_keys=True)))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, and nobody else's between; the write lock is taken at once, so that no reading grows old."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself has rolled back when the disk was full
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For one question, which locks nobody out; what is asked and then acted on belongs into a :meth:`transaction`."""
        with self._told():
            yield self._db

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """What is read within is of one moment."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def _damaged(self, how: str) -> InputError:
        return InputError(f"a file that is no ledger or a damaged one ({' '.join(how.split())})", WHOLE, self.path)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as what a user can mend."""
        try:
            yield
        except UnicodeDecodeError as error:
            raise self._damaged("text that is none") from error
        except json.JSONDecodeError as error:
            raise self._damaged("words that are none of ours") from error
        except sqlite3.DatabaseError as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, "No space left on device", str(self.path)) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InputError(
                    f"a ledger locked for {PATIENCE:.0f} s", "the process that holds it to end", self.path
                ) from error
            if code in (0, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
                raise self._damaged(str(error).partition(" with text")[0]) from error
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
                raise InputError(str(error), "a ledger that can be read and written", self.path) from error
            raise


def count_states(entries: Iterable[Entry]) -> dict[State, int]:
    """How many cases are in each state."""
    counted: dict[State, int] = dict.fromkeys(STATES, 0)
    for entry in entries:
        counted[entry.state] += 1
    return counted


def latest(ledgers: Sequence[Iterable[Entry]]) -> list[Entry]:
    """The cases of several ledgers by name; of one that stands in several, what was said last."""
    known: dict[str, Entry] = {}
    for entry in (entry for entries in ledgers for entry in entries):
        if entry.name not in known or entry.changed > known[entry.name].changed:
            known[entry.name] = entry
    return [known[name] for name in sorted(known)]


def _is_lost(row: sqlite3.Row, now: float) -> bool:
    ahead = row["until"] > now + AHEAD and is_elsewhere(row["owner"])
    return bool(row["until"] < now or ahead or is_gone(row["owner"]))


def _entry(row: sqlite3.Row, now: float) -> Entry:
    said = {name: row[name] for name in Entry.__dataclass_fields__}
    if wrong := [name for name, kind in KINDS.items() if not isinstance(said[name], kind)]:
        raise sqlite3.DatabaseError(f"{wrong[0]} of a case is no {KINDS[wrong[0]].__name__}")
    if row["state"] not in STATES:
        raise sqlite3.DatabaseError("a case is in no state that there is")
    if row["state"] == "running" and _is_lost(row, now):
        said |= {"state": "waiting", "kind": "taken-back", "stage": ""}
    return Entry(**(said | {"source": tuple(json.loads(row["source"]))}))


KINDS: dict[str, type] = {
    **dict.fromkeys(("name", "source", "state", "stage", "kind", "why", "pixels", "outputs"), str),
    **dict.fromkeys(("place", "attempts"), int),
    **dict.fromkeys(("began", "seconds", "changed"), float),
}
"""Of what stands in a case's row: a damaged file may have anything there."""
