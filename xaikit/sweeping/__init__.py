"""Sweeps: the notebooks over a table of parameters, on Dask, resumed after anything."""

from .ledger import read_sweep
from .sweep import SweepFailed, sweep
from .table import rows_of

__all__ = ["SweepFailed", "read_sweep", "rows_of", "sweep"]
