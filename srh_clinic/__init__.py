"""srh-clinic: restore stimulated Raman histology, then classify it. Research software, not a medical device."""

__version__ = "0.1.0"
