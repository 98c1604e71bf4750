"""One offline HTML file in which a case is looked at: layers before and after restoration, flags, provenance."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
