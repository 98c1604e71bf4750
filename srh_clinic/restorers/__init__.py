"""Restorers: RSCD and the filters it is compared with, all behind ``create_restorer(name, ...).restore(counts)``."""

from __future__ import annotations

from srh_clinic.restorers.protocol import Restoration, Restorer
from srh_clinic.restorers.registry import RESTORERS, create_restorer
from srh_clinic.rscd.restoration import RestoredTile, Tile

__all__ = ["RESTORERS", "Restoration", "RestoredTile", "Restorer", "Tile", "create_restorer"]
