"""The tables of a ledger."""

from __future__ import annotations

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
