"""srh-clinic: restore stimulated Raman histology, then classify it. Research software, not a medical device.

What it hands on stands in ``__init__.pyi`` and is loaded when it is first asked for: the networks' libraries take seconds.
"""

import importlib
import random

import lazy_loader

# rich 15.0.0 draws from Python's own random numbers when ``rich.style`` is imported, and scikit-learn 1.9, which monai
# imports, does so: whoever seeds first would find other numbers after our first use. Here it draws none of the caller's.
_callers = random.getstate()
importlib.import_module("rich.style")
random.setstate(_callers)

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
