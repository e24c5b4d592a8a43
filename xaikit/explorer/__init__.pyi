from .application import Explorer as Explorer, explore as explore
from .sources import known_runs as known_runs
from .state import State as State
