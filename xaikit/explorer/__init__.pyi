from .application import Explorer as Explorer, explore as explore
from .beside import beside as beside
from .sources import known_runs as known_runs
from .state import State as State
