"""The analysis of an unblinded study, section by section."""
