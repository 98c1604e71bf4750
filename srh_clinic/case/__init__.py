"""A case: restored, classified before and after, scrutinised, and what came of it."""
