"""Blinded rater studies."""
