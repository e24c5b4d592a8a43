"""Is an option one of its known values, or a whole number in its range? If not, one sentence says what would be right."""

from numbers import Integral


def check_choices(**choices: tuple[object, tuple[str, ...]]) -> None:
    """Raise ValueError for the first option, given as name=(value, known values), whose value is not known."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{name}={value!r}: choose from {', '.join(known)}")


def check_whole(low: int, high: int | None = None, **values: object) -> None:
    """Raise ValueError for the first option, given as name=value, that is no whole number from low to high."""
    wanted = f"of at least {low}" if high is None else f"from {low} to {high}"
    for name, value in values.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or value < low or (high is not None and value > high):
            raise ValueError(f"{name}={value!r}: a whole number {wanted} is needed")
