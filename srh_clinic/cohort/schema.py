"""The tables of a ledger, and a file of them opened."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from srh_clinic.errors import InputError

VERSION = 3
"""Of the tables; the first had no deliveries."""

TABLES = """
CREATE TABLE cases (
    name TEXT PRIMARY KEY,
    place INTEGER NOT NULL,
    source TEXT NOT NULL,
    files TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'parked', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    token TEXT NOT NULL DEFAULT '',
    until REAL NOT NULL DEFAULT 0,
    began REAL NOT NULL DEFAULT 0,
    stage TEXT NOT NULL DEFAULT '',
    kind TEXT NOT NULL DEFAULT '',
    why TEXT NOT NULL DEFAULT '',
    seconds REAL NOT NULL DEFAULT 0,
    pixels TEXT NOT NULL DEFAULT '',
    outputs TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL
);
CREATE INDEX by_state ON cases (state, place);
CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    name TEXT NOT NULL,
    was TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    why TEXT NOT NULL,
    seconds REAL NOT NULL
);
CREATE INDEX of_case ON history (name, number);
CREATE TABLE said (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

_DELIVERIES = """
CREATE TABLE IF NOT EXISTS deliveries (
    name TEXT NOT NULL,
    destination TEXT NOT NULL,
    outputs TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sent', 'refused', 'late', 'kept')),
    attempts INTEGER NOT NULL,
    until REAL NOT NULL,
    kind TEXT NOT NULL,
    changed REAL NOT NULL,
    PRIMARY KEY (name, destination)
)
"""

_WORKITEMS = """
CREATE TABLE IF NOT EXISTS workitems (
    service TEXT NOT NULL,
    uid TEXT NOT NULL,
    transaction_uid TEXT NOT NULL,
    stage TEXT NOT NULL,
    began REAL NOT NULL,
    cases TEXT NOT NULL DEFAULT '[]',
    studies TEXT NOT NULL DEFAULT '[]',
    cause TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL,
    PRIMARY KEY (service, uid)
)
"""

ADDED = (_DELIVERIES, _WORKITEMS)
"""Statements for what came with later versions; each may be run again."""

PATIENCE = 60.0
"""Seconds to wait for another process that writes to the ledger."""

_AGAIN = 0.05
"""Seconds until a lock is asked for again where SQLite does not wait for it."""


def opened(path: Path, *, read: bool = False) -> sqlite3.Connection:
    """The file of a ledger, made or brought up to this version where that is needed.

    One that is only ``read`` and lies where nothing can be written, such as a backup, is read as it stands.

    Raises
    ------
    InputError
        When it is of a version that is not known here.
    sqlite3.DatabaseError
        When it is none, or cannot be opened.
    """
    try:
        return _connected(path, str(path))
    except sqlite3.OperationalError as error:
        cannot = (error.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)
        left = path.with_name(f"{path.name}-wal")  # what stands there alone could not be read
        if not read or not cannot or (left.exists() and left.stat().st_size):
            raise
    return _connected(path, f"file:{quote(str(path.absolute()))}?immutable=1", write=False)


def _connected(path: Path, where: str, *, write: bool = True) -> sqlite3.Connection:
    db = sqlite3.connect(where, timeout=PATIENCE, isolation_level=None, uri=not write)
    try:
        db.row_factory = sqlite3.Row
        if write:
            _set_journal(db)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        empty = version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone()
        if (not empty or not write) and not 1 <= version <= VERSION:
            raise InputError(f"a ledger of version {version}", f"one of version {VERSION}; take another --out", path)
        if version != VERSION and not write:
            raise InputError(f"a ledger of version {version}", "a folder that can be written, to bring it up to date", path)
        if version != VERSION:
            for statement in (*(TABLES.split(";") if empty else ()), *ADDED):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        if write:
            db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _set_journal(db: sqlite3.Connection) -> None:
    """Two processes that open a new file at once: SQLite does not wait for the lock that this takes, so it is asked again."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_AGAIN)
