from .replications import carried_over as carried_over, replication as replication, replications as replications
from .rules import (
    CONTROLS as CONTROLS,
    OTHER_BLOCKS as OTHER_BLOCKS,
    RESONANCE_CONTROLS as RESONANCE_CONTROLS,
    UNCORRECTED as UNCORRECTED,
    Rule as Rule,
    beside_controls as beside_controls,
    ledger as ledger,
    paper_tables as paper_tables,
    rules as rules,
)
from .table import (
    by_sentence as by_sentence,
    calibration as calibration,
    fill as fill,
    measure as measure,
    measured_in as measured_in,
    readable as readable,
    verdicts_of as verdicts_of,
)
from .verdicts import (
    CONSISTENT as CONSISTENT,
    FAILS as FAILS,
    FALSE as FALSE,
    FEWEST as FEWEST,
    HOLDS as HOLDS,
    INCONSISTENT as INCONSISTENT,
    RATE as RATE,
    SAME as SAME,
    TRUE as TRUE,
    UNDECIDED as UNDECIDED,
    UNTESTABLE as UNTESTABLE,
    decided as decided,
    map_change as map_change,
)
