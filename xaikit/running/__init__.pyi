from .committed import refresh as refresh, serve as serve
from .replicating import replicate as replicate, replicated as replicated
from .status import check_run as check_run, open_sweep as open_sweep, read_sweep as read_sweep
from .sweep_plan import rows_of as rows_of
from .sweeping import SweepFailed as SweepFailed, sweep as sweep
from .workbook import RunFailed as RunFailed, run as run
