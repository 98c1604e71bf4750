"""Restorers: RSCD and what it is compared with, all behind ``create_restorer(name, ...).restore(counts)``."""

from srh_clinic.restorers.registry import KINDS, RESTORERS, SEEDED, Kind, create_restorer
from srh_clinic.restorers.restorer import Restoration, Restorer, TileRestorer
from srh_clinic.rscd.tile import RestoredTile, Tile

__all__ = [
    "KINDS",
    "RESTORERS",
    "SEEDED",
    "Kind",
    "Restoration",
    "RestoredTile",
    "Restorer",
    "Tile",
    "TileRestorer",
    "create_restorer",
]
