"""Cases from a PACS and results back to it: what arrives, when it is a case, and where its results go."""
