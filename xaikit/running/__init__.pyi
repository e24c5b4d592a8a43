from .committed import refresh as refresh
from .record import check_run as check_run
from .serving import serve as serve
from .sweep_plan import rows_of as rows_of
from .sweep_status import open_sweep as open_sweep, read_sweep as read_sweep
from .sweeping import SweepFailed as SweepFailed, sweep as sweep
from .workbook import RunFailed as RunFailed, run as run
