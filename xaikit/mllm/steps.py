"""What is done to the logit-lens maps of a token: the choices behind lens, TAM, MSEA and ARC, each a switch of its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..files.checks import check_choices, check_number, check_options, check_whole
from ..files.registry import check_option
from .memory import Keeps
from .methods import TokenMethod
from .model import Mllm
from .numerics import (
    WEIGHTINGS,
    aggregate,
    context_mask,
    joint_normalisation,
    overlap_matrix,
    rank_gaussian_filter,
    released_tam,
    remove_interference,
    resized,
)
from .passes import Reading
from .view import NATIVE, Answers, Key, View, apart, together

GRIDS = ("finest", "native")
SCALES = (1.0, 1.5, 2.0)  # of MSEA
_TAM = {"weighting": "relevance", "joint": True, "filter": 3}
_ARC = {**_TAM, "weighting": "irrelevance"}


@dataclass(frozen=True)
class Scaled:
    """What all methods choose: the scales of the input image that they see, over which their maps are averaged."""

    scales: tuple[float, ...] = (1.0,)
    enlargement: Literal["interpolate", "crops"] = "interpolate"
    keeps: ClassVar[Keeps] = "nothing"  # in memory, beside a pass

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", _scales(self.scales))
        for each in fields(self):
            check_option(each.name, getattr(self, each.name), each.type)

    @property
    def keys(self) -> list[Key]:
        """The scales, each in its enlargement."""
        return [NATIVE if scale == 1 else (scale, self.enlargement) for scale in self.scales]

    @property
    def described(self) -> dict[str, Any]:
        """All choices, as stores keep them."""
        return asdict(self)


@dataclass(frozen=True)
class Steps(Scaled):
    """The way from raw maps to an explanation. The defaults are the bare logit lens; ``PRESETS`` names others.

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

    Examples
    --------
    >>> from dataclasses import replace
    >>> import xaikit as xk
    >>> replace(xk.mllm.PRESETS["tam"], scales=(1, 2)).scales
    (1.0, 2.0)
    """

    scale_weights: Literal["equal", "likelihood"] = "equal"
    scale_normalisation: Literal["none", "range", "sum"] = "none"
    grid: str | tuple[int, int] = "finest"
    weighting: str | None = None
    k: int = 50
    persistence: float = 0.9
    normalised: bool = True
    positions: Literal["emitting", "previous"] = "emitting"
    threshold: float = 0.5
    prompt_context: bool = True
    least_squares: bool = True
    joint: bool = False
    filter: int = 0
    released: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.grid, str):
            check_choices(grid=(self.grid, GRIDS))
            if self.grid == "native" and 1.0 not in self.scales:
                raise ValueError(f"grid='native' is that of scale 1, which isn't among the scales {self.scales}")
        else:
            check_grid(self.grid, f"choose from {', '.join(GRIDS)}, or give (rows, cols)")
        if self.weighting is not None:
            check_choices(weighting=(self.weighting, tuple(WEIGHTINGS)))
        check_whole(1, k=self.k)
        check_number(0, 1, open_low=True, open_high=True, persistence=self.persistence, threshold=self.threshold)
        check_whole(0, filter=self.filter)
        if self.filter and self.filter % 2 == 0:
            raise ValueError(f"filter={self.filter}: the side of a window with a middle is odd, such as 3; 0 is none")
        if self.released and replace(self, released=False) != Steps(**_TAM):
            raise ValueError("tam_compat=True: the released function knows no choices; use it with method='tam' alone")

    @property
    def compares(self) -> bool:
        """Whether rankings are compared."""
        return self.weighting not in (None, "relevance")

    def maps(self, reading: Reading, mllm: Mllm) -> list[Tensor]:
        """Each image's maps (n, T, rows, cols) of all tokens after these steps; those of the answer are meant to be looked at.

        What is taken off and what a map is normalised by are of all images together, so that these can be compared; the filter
        is each image's own. mllm : the model that was read, for ``released`` only.
        """
        if self.released:
            return [_released(reading, mllm)]
        averaged = self._over_scales(reading)
        grids, maps = [tuple(each.shape[-2:]) for each in averaged], together(averaged)
        states = reading.states
        tokens = (states.ids, states.is_answer, states.real, self.prompt_context)
        if self.weighting is not None:
            given = (reading.relevance, self.rank_overlap(reading) if self.compares else None, context_mask(*tokens))
            maps = remove_interference(maps, self.weighting, *given, self.threshold, self.least_squares)
        if self.joint:
            maps = joint_normalisation(maps, reading.relevance, context_mask(*tokens, repeated=True))
        each = apart(maps, grids)
        if self.filter:
            each = [rank_gaussian_filter(image, self.filter) for image in each]
        return [image * states.real[..., None, None] for image in each]

    def rank_overlap(self, reading: Reading) -> Tensor:
        """Rank-biased overlap (n, T, T) of the tokens' rankings, as these steps take them."""
        choice = (self.positions, self.k, self.persistence, self.normalised)
        if choice not in reading.made:
            top = reading.top[self.positions][..., : self.k]
            reading.made[choice] = overlap_matrix(top, self.persistence, self.normalised, reading.states.real)
        return reading.made[choice]

    def _over_scales(self, reading: Reading) -> list[Tensor]:
        choice = (self.scales, self.enlargement, self.scale_weights, self.scale_normalisation, self.grid)
        if choice not in reading.made:
            omega = None
            if self.scale_weights == "likelihood":  # 0 for the prompt's tokens
                total = torch.stack([reading.likelihood[key].sum(1) for key in self.keys], 1)
                omega = (total / reading.states.is_answer.sum(1, keepdim=True)).softmax(1)
            at_scale = [apart(reading.maps[key], reading.grids[key]) for key in self.keys]
            native = self.scales.index(1.0) if 1.0 in self.scales else 0
            reading.made[choice] = [
                aggregate(list(image), omega, self.grid, self.scale_normalisation, native)
                for image in zip(*at_scale, strict=True)
            ]
        return reading.made[choice]


def _released(reading: Reading, mllm: Mllm) -> Tensor:
    """The released function sample by sample, since its quirks run through its rounds."""
    states = reading.states
    result = torch.zeros_like(reading.maps[NATIVE])
    for row, view in enumerate(states.views):
        answer = states.ids[row, states.is_answer[row]]
        tokens, prompt = torch.cat([view.ids.to(answer.device), answer]), view.prompt_positions.to(answer.device)
        logits = mllm.logits(states.hidden[row, : int(states.lengths[row])])
        maps = released_tam(tokens, logits, view.grid, len(view.ids), states.image[row], prompt)
        result[row, states.is_answer[row]] = maps.to(result) / 255
    return result


@dataclass(frozen=True)
class AtScales(Scaled):
    """A registered ``method``, with its ``options``, at several scales of the input image; the maps are averaged over them.

    scales, enlargement : as in ``Steps``, so that MSEA isn't compared with methods that see one scale. Each scale's map is
    resized to the finest grid with its sum kept: a share of attention stays one. Raises ValueError for scales that aren't possible.
    """

    method: TokenMethod = field(kw_only=True)
    options: Mapping[str, Any] = field(kw_only=True)

    @property
    def keeps(self) -> Keeps:
        """What the method keeps in memory."""
        return self.method.keeps

    @property
    def described(self) -> dict[str, Any]:
        """The method's name and options, the scales only where there are several."""
        scaled = {"scales": self.scales, "enlargement": self.enlargement} if self.scales != (1.0,) else {}
        return {"method": self.method.name, **self.options, **scaled}

    def at_one_scale(self, mllm: Mllm, views: Sequence[View], answers: Answers) -> Tensor:
        """What the method finds at one scale. Raises ValueError for maps of another shape than ``token_method`` asks for."""
        sizes = (len(views), max(map(len, answers)), *views[0].grid)
        wanted = dict(zip(("samples", "answer tokens", "rows", "cols"), sizes, strict=True))
        return self.method.checked(self.method.function(mllm, views, answers, **self.options), Tensor, wanted)

    def maps(self, found: Mapping[Key, Tensor], views: Mapping[Key, Sequence[View]]) -> list[Tensor]:
        """Each image's maps (n, answer tokens, rows, cols), float32, of what the method found at each scale."""
        each = [apart(found[key].float(), views[key][0].grids) for key in self.keys]
        return [_mean_of_sums(image) for image in zip(*each, strict=True)]


def _mean_of_sums(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps of several scales on the finest grid, each with its sum kept."""
    if len(maps) == 1:
        return maps[0]
    grid, parts = max((each.shape[-2:] for each in maps), key=lambda shape: shape.numel()), []
    for each in maps:
        larger, own = resized(each, tuple(grid)), each.sum((-2, -1), keepdim=True)
        total = larger.sum((-2, -1), keepdim=True)
        kept = torch.where(total.abs() > 1e-12, own / total, each.shape[-2:].numel() / grid.numel())
        parts.append(larger * kept)
    return torch.stack(parts).mean(0)


def keys_of(choices: Sequence[Scaled]) -> list[Key]:
    """Which scales, in which enlargement, these need; the answer is written at the first."""
    return list(dict.fromkeys([NATIVE, *(key for choice in choices for key in choice.keys)]))


def needed_rankings(steps: Sequence[Steps]) -> dict[str, int]:
    """How many of the likeliest next tokens these steps compare, by the choice of positions."""
    needed: dict[str, int] = {}
    for choice in steps:
        if choice.compares:
            needed[choice.positions] = max(choice.k, needed.get(choice.positions, 0))
    return needed


def check_grid(grid: Any, wanted: str) -> None:
    """Raise ValueError unless a grid is (rows, cols)."""
    try:
        rows, cols = grid
    except (TypeError, ValueError):
        raise ValueError(f"grid={grid!r}: {wanted}") from None
    check_whole(1, rows=rows, cols=cols)


def _scales(scales: Any) -> tuple[float, ...]:
    given = tuple(scales) if isinstance(scales, Iterable) and not isinstance(scales, str) else (scales,)
    for scale in given:
        check_number(0, open_low=True, scales=scale)
    if not given or len(set(given)) < len(given):
        raise ValueError(f"scales={scales!r}: different ones are needed, at least one")
    return tuple(float(scale) for scale in given)


PRESETS = {
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
    options = {"released" if name == "tam_compat" else name: value for name, value in options.items()}
    check_options(method, options, [each.name for each in fields(Steps)])
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
