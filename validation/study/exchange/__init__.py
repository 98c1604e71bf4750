"""Studies in other programs' formats."""
