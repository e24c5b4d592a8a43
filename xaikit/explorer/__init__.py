"""The explorer: widgets over every method. ``state`` says what is shown, ``views`` draw it, ``tabs`` show it."""

from .application import Explorer, explore
from .run_stores import known_runs
from .state import State

__all__ = ["Explorer", "State", "explore", "known_runs"]
