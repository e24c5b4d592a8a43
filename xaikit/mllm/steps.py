"""What is done to the logit-lens maps of a token: the choices behind lens, TAM, MSEA and ARC, each a switch of its own."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

from ..files.checks import check_choices, check_whole
from .family import ENLARGEMENTS
from .msea import GRIDS, NORMALISE
from .tam import WEIGHTINGS

POSITIONS = ("emitting", "previous")
SCALE_WEIGHTS = ("equal", "likelihood")


@dataclass(frozen=True)
class Steps:
    """The way from raw maps to an explanation. The defaults are the bare logit lens.

    scales : of the input image; the maps are averaged over them (MSEA). The answer is always written at scale 1.
    enlargement : how models of one input size get other scales, "interpolate" (their position embeddings) or "crops".
    scale_weights : "equal", or by the "likelihood" of the answer at each scale (an extension).
    scale_normalisation : what each scale's maps are divided by before the average: "none", their "range" or "sum".
    grid : of the average, the "finest" of the scales, the "native" one, or (rows, cols).
    weighting : by what earlier tokens' maps are subtracted: None for no subtraction, "relevance" for TAM, else a reading
        of ARC; see ``WEIGHTINGS``.
    k, persistence, normalised : of the rank-biased overlap of two tokens' k likeliest next tokens.
    positions : whose rankings are compared: of the states that wrote the answer's tokens, with a prompt token's own
        ("emitting", as in TAM), or of the state before each token ("previous").
    threshold : of the weighting "incoherent".
    prompt_context : whether the prompt's tokens are among the earlier ones.
    least_squares : scale what is subtracted by least squares, else subtract it as it is.
    joint : normalise a map together with the relevance of the text, so that text-driven words get dim maps.
    filter : the side of the rank-Gaussian filter's window, an odd number, 0 for none.
    released : TAM as its released function computes it, its faults included (``tam_compat``); needs the choices of TAM.

    Raises ValueError, in one sentence, for a choice that isn't possible.
    """

    scales: tuple[float, ...] = (1.0,)
    enlargement: str = "interpolate"
    scale_weights: str = "equal"
    scale_normalisation: str = "none"
    grid: str | tuple[int, int] = "finest"
    weighting: str | None = None
    k: int = 50
    persistence: float = 0.9
    normalised: bool = True
    positions: str = "emitting"
    threshold: float = 0.5
    prompt_context: bool = True
    least_squares: bool = True
    joint: bool = False
    filter: int = 0
    released: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", _scales(self.scales))
        check_choices(
            enlargement=(self.enlargement, ENLARGEMENTS), scale_weights=(self.scale_weights, SCALE_WEIGHTS),
            scale_normalisation=(self.scale_normalisation, NORMALISE), positions=(self.positions, POSITIONS),
        )  # fmt: skip
        if isinstance(self.grid, str):
            check_choices(grid=(self.grid, GRIDS))
            if self.grid == "native" and 1.0 not in self.scales:
                raise ValueError(f"grid='native' is that of scale 1, which isn't among the scales {self.scales}")
        else:
            check_grid(self.grid, f"choose from {', '.join(GRIDS)}, or give (rows, cols)")
        if self.weighting is not None:
            check_choices(weighting=(self.weighting, tuple(WEIGHTINGS)))
        check_whole(1, k=self.k)
        _check_share("persistence", self.persistence)
        _check_share("threshold", self.threshold)
        for name in ("normalised", "prompt_context", "least_squares", "joint", "released"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: True or False is needed")
        check_whole(0, filter=self.filter)
        if self.filter and self.filter % 2 == 0:
            raise ValueError(f"filter={self.filter}: the side of a window with a middle is odd, such as 3; 0 is none")
        if self.released and replace(self, released=False) != PRESETS["tam"]:
            raise ValueError("tam_compat=True: the released function knows no choices; use it with method='tam' alone")

    @property
    def native(self) -> int:
        """The place of scale 1 among the scales, 0 where it isn't."""
        return self.scales.index(1.0) if 1.0 in self.scales else 0

    @property
    def compares(self) -> bool:
        """Whether rankings are compared."""
        return self.weighting not in (None, "relevance")


def check_grid(grid: Any, wanted: str) -> None:
    """Raise ValueError unless a grid is (rows, cols)."""
    try:
        rows, cols = grid
    except (TypeError, ValueError):
        raise ValueError(f"grid={grid!r}: {wanted}") from None
    check_whole(1, rows=rows, cols=cols)


def _scales(scales: Any) -> tuple[float, ...]:
    given = tuple(scales) if isinstance(scales, Iterable) else (scales,)
    if not all(isinstance(s, Real) and not isinstance(s, bool) and math.isfinite(s) and s > 0 for s in given):
        raise ValueError(f"scales={scales!r}: positive numbers are needed, such as (1.0, 1.5, 2.0)")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"scales={scales!r}: different ones are needed, at least one")
    return tuple(float(scale) for scale in given)


def _check_share(name: str, value: Any) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < 1:
        raise ValueError(f"{name}={value!r}: a number between 0 and 1 is needed")


SCALES = (1.0, 1.5, 2.0)
_TAM = {"weighting": "relevance", "joint": True, "filter": 3}
_ARC = {**_TAM, "weighting": "irrelevance"}
PRESETS: dict[str, Steps] = {}  # filled below: Steps looks TAM's up
PRESETS |= {
    "lens": Steps(),
    "tam": Steps(**_TAM),
    "msea": Steps(scales=SCALES, **_TAM),
    "arc": Steps(**_ARC),
    "msea+arc": Steps(scales=SCALES, **_ARC),
}
SOURCES = {
    "lens": "logit lens on visual positions (Li et al., Token Activation Map, ICCV 2025, eq. 1)",
    "tam": "Li et al., Token Activation Map, ICCV 2025, released code",
    "msea": "Liang et al., arXiv 2509.22415, section 3.2, reconstructed, with TAM's steps",
    "arc": "Liang et al., arXiv 2509.22415, section 3.3, reconstructed, with TAM's steps",
    "msea+arc": "Liang et al., arXiv 2509.22415, reconstructed",
}


def steps_of(method: str, options: Mapping[str, Any]) -> Steps:
    """The steps of a method of the lens family, with some of them chosen otherwise. ``tam_compat`` is short for
    ``released``. Raises ValueError for an option that there isn't, and for one that the other choices leave no use for,
    which ``Steps`` itself takes."""
    options = dict(options)
    if "tam_compat" in options:
        options["released"] = options.pop("tam_compat")
    known = [field.name for field in fields(Steps)]
    for name in options:
        if name not in known:
            raise ValueError(f"unknown option {name!r} of {method}: it takes {', '.join(known)}")
    steps = replace(PRESETS[method], **options)
    for name, value in options.items():
        needed = _needed(steps, name, value)
        if needed:
            raise ValueError(f"{name}={value!r}: it needs {needed}, or it has no use in {method}")
    return steps


def _needed(steps: Steps, option: str, value: Any) -> str:
    """What an option needs and these steps lack; "" where they lack nothing."""
    if option in ("k", "persistence", "normalised", "positions") and not steps.compares:
        able = ", ".join(name for name in WEIGHTINGS if name != "relevance")
        return f"a weighting by rank overlap ({able}), not {steps.weighting!r}"
    if option == "threshold" and steps.weighting != "incoherent":
        return f"weighting='incoherent', not {steps.weighting!r}"
    if option == "least_squares" and steps.weighting is None:
        return "a weighting"
    if option == "prompt_context" and steps.weighting is None and not steps.joint:
        return "a weighting or joint=True"
    if option == "enlargement" and steps.scales == (1.0,):
        return "a scale other than 1"
    among_scales = option == "scale_weights" or (option == "grid" and isinstance(value, str))
    return "several scales" if among_scales and len(steps.scales) == 1 else ""
