"""srh-clinic: restore stimulated Raman histology, then classify it. Research software, not a medical device.

What it hands on stands in ``__init__.pyi`` and is loaded when it is first asked for: the networks' libraries take seconds.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
