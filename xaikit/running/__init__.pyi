from .check import check_run as check_run
from .committed import refresh as refresh
from .serving import serve as serve
from .sweep_ledger import open_sweep as open_sweep, read_sweep as read_sweep
from .sweep_table import rows_of as rows_of
from .sweeping import SweepFailed as SweepFailed, sweep as sweep
from .workbook import RunFailed as RunFailed, run as run
