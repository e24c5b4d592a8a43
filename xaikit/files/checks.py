"""Is an option what it must be? If not, one sentence names its value and says what would be right."""

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real


def check_choices(**choices: tuple[object, Collection[str]]) -> None:
    """Raise ValueError for the first option, given as name=(value, known values), whose value is not known.

    Examples
    --------
    >>> from xaikit.files import check_choices
    >>> check_choices(fill=("mean", ("zero", "mean")))
    """
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{name}={value!r}: choose from {', '.join(known)}")


def check_whole(low: int | None = None, high: int | None = None, **values: object) -> None:
    """Raise ValueError for the first option, given as name=value, that is no whole number from low to high.

    Examples
    --------
    >>> from xaikit.files import check_whole
    >>> check_whole(1, n=3)
    """
    least = "" if low is None else f" of at least {low}"
    wanted = least if high is None else f" from {low} to {high}"
    for name, value in values.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"{name}={value!r}: a whole number{wanted} is needed")


def check_number(
    low: float = -math.inf,
    high: float = math.inf,
    what: str = "number",
    open_low: bool = False,
    open_high: bool = False,
    **values,
) -> None:
    """Raise ValueError for the first option, given as name=value, that is no finite number from low to high.

    what : names the number in the sentence. open_low, open_high : low, or high, itself is refused.
    """
    least = f"{'above' if open_low else 'from'} {low:g}" if low > -math.inf else ""
    most = f"{'below' if open_high else 'up to'} {high:g}" if high < math.inf else ""
    joint = " and " if open_low and open_high else ", "
    wanted = (
        f"from {low:g} to {high:g}"
        if least and most and not (open_low or open_high)
        else joint.join(filter(None, (least, most)))
    )
    for name, value in values.items():
        real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        fits = real and (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
        if not fits:
            raise ValueError(f"{name}={value!r}: a {f'{what} {wanted}'.strip()} is needed")


def check_flags(**values: object) -> None:
    """Raise ValueError for the first option, given as name=value, that is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: True or False is needed")


def check_names(known: Collection[str] | None = None, **values: object) -> None:
    """Raise ValueError for the first option, given as name=value, that is no list of different names, at least one, all of
    them among the known ones."""
    for name, value in values.items():
        if isinstance(value, str) or not isinstance(value, Sequence) or not value or len({*value}) < len(value):
            raise ValueError(f"{name}={value!r}: give a list of different names, at least one")
        for each in value if known is not None else ():
            check_choices(**{name: (each, known)})
