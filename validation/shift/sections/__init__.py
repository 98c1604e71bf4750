"""The sections of an accuracy-shift report."""
