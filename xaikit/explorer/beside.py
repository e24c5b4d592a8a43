"""A figure that follows a few choices, beside the claim that it is about: a widget where somebody can press it, and everywhere a
picture of what it shows first."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ..files.checks import EXTRAS, needs
from ..running.execution import UNATTENDED
from .shown import Shown


def beside(draw: Callable[..., Figure | pd.DataFrame], **options: Iterable | str | pd.Series | pd.DataFrame) -> Any:
    """A figure or a table that is drawn again as its reader chooses, beside the claim that it is about.

    draw : a function of the options by name, such as one of ``xk.plots`` over results that are there already; what it
    returns is shown. A default of its parameter that is among the values is chosen first, else the first value. options : what can be
    chosen, and how:

    - numbers, such as ``range(4)`` or ``[0.5, 2.0]``, by a slider;
    - other values, or a dict of labels and values, from a list;
    - a text, which is the first, by typing;
    - a pandas Series of shares from 0 to 1 by words, by pressing a word: the function gets its place;
    - a DataFrame by pressing a cell, or a column's head to sort by: the function gets (row name, column name).

    Returns the widget, shown by a notebook as a cell's last value; ``set`` chooses from code. A page without a kernel shows
    what was drawn first. In a batch run (the variable XAIKIT_UNATTENDED), and where the extra ``explorer`` isn't installed,
    that is all. Everything can be reached by keyboard. What the function refuses (ValueError, LookupError) is
    one sentence above the picture, which stays.

    Raises ValueError for an option that the function doesn't take, one without values, and one that it needs and isn't given.

    Examples
    --------
    >>> heat = xk.explain(["grad_eclip", "edge"], clip, scenes.image, scenes.caption)
    >>> def map_of(scene, method="edge"):
    ...     return xk.plots.compare(scenes, heat.sel(explainer=[method]), f"Heat by {method}", (scene,))
    >>> xk.explorer.beside(map_of, scene=range(4), method=["grad_eclip", "edge"])
    shown: scene 0, method edge
    """
    shown = Shown(draw, options)
    if os.environ.get(UNATTENDED) == "1":
        return shown
    try:
        from .choosing import Beside
    except ModuleNotFoundError as error:
        if extra := EXTRAS.get(str(error.name).partition(".")[0]):
            shown.why = f" ({needs(error.name, extra)})"
            return shown
        raise
    return Beside(shown)
