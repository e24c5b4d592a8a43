"""The ledger of the papers' claims: its rows and rules, what was measured of each, verdicts, and how far these can be trusted."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
