"""Everything that is measured: one module a benchmark."""
