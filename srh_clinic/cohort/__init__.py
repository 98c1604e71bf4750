"""Many cases, unattended, each exactly once: their ledger, the workers that take from it, and what is told of them."""
