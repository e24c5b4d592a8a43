"""What the explorer shows, as data: every choice of every view, in as arguments and out as the line that reproduces it."""

import dataclasses
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from ..files.checks import (
    COUPLINGS,
    FILLS,
    RECURSION,
    check_choices,
    check_flags,
    check_known,
    check_names,
    check_number,
    check_whole,
)

# Each is drawn by ``views.view`` and shown by the class ``NameTab`` in ``tabs.py``.
TABS = ("compare", "words", "resonance", "answer", "perturb", "runs")
# All rise evenly in lightness, so that colour-blind readers see them alike.
COLOURS = ("magma", "viridis", "cividis", "gray")
UPSAMPLING = ("nearest", "bilinear", "bicubic")
PERTURBATIONS = ("deletion", "insertion")
MOST_METHODS = 4
MOST_SAMPLES = 5  # in each of the two rows below a table

# What a choice can be, where its type doesn't say it.
ONE_OF = {
    "tab": TABS, "colours": COLOURS, "upsampling": UPSAMPLING, "coupling": COUPLINGS, "perturbation": PERTURBATIONS,
    "fill": FILLS,
}  # fmt: skip
RANGES = {"opacity": (0, 1), "threshold": (0, 1), "share": (0, 1), "alpha": (0, 2)}  # the ends of the last are refused
LEAST = {"iterations": 1, "batch_size": 1}  # all other whole numbers may be 0
MAY_BE_EMPTY = ("prompt", "question")  # an empty one has a sentence of its own

_OF_PROMPT = ("words", "word", "time", "mode", "concept")
_OF_PICTURE = (*_OF_PROMPT, "masked", "token")
_OF_TABLE = ("sort", "descending", "explainer", "metric")
_OF_COURSE = ("time", "mode", "concept")
# The choices that only one tab knows, and that need not be there for another picture, prompt or run.
CHOICES_OF = {
    "words": ("words",),
    "resonance": ("word", *_OF_COURSE),
    "answer": ("token",),
    "perturb": ("masked",),
    "runs": ("table", *_OF_TABLE),
}
# What goes back to its default when a choice changes, since it was about the picture, the words or the table shown before.
RESETS = {
    "run": ("sample", "image", "prompt", *_OF_PICTURE, "table", *_OF_TABLE),
    "sample": ("image", "prompt", *_OF_PICTURE),
    **dict.fromkeys(("image", "model", "pretrained"), _OF_PICTURE),
    "prompt": _OF_PROMPT,
    "word": ("mode",),
    **dict.fromkeys(("alpha", "coupling", "iterations"), _OF_COURSE),
    **dict.fromkeys(("multimodal_model", "question"), ("token",)),
    "table": _OF_TABLE,
}


@dataclass(frozen=True)
class State:
    """Everything that the explorer shows.

    tab : the view that is open, one of ``TABS``.
    run : a run folder, by name or path, whose scenes, stored maps and tables are shown; None for scenes drawn on the spot.
    model, pretrained, device : as in ``load_clip``. batch_size : perturbed pictures computed at once; bounds the memory.
    sample : which scene. image : a path, or the name of an uploaded picture, instead of a scene. prompt : None for the
        scene's caption.
    methods : one to four, side by side. opacity : of the maps over the image, 0 to 1. colours, upsampling : of the maps.
    threshold : share of a map's largest heat from which on a pixel is in the mask. mask : whether its edge is drawn.
    method : that of the views "words" and "perturb". words : the pressed words, by their place.
    alpha, coupling, iterations : of the recursion (``Recursion``); word : whose map; time : which iteration, None for the
        last; mode : which dynamic mode; concept : which node of the hierarchy, None for none.
    multimodal_model, question : of the answer; msea, arc : whether the two corrections are on; token : whose map, None for
        the first that names something.
    perturbation : "deletion" or "insertion" of the hottest patches; share : how many, 0 to 1; fill : what stands in for
        them; masked : patches masked by hand, by their place.
    table : the run's store whose table is shown, None for "evaluation" or else its first; sort : the column it is sorted by,
        None for the store's order; descending : largest first; explainer, metric : the cell whose samples are shown, None for
        none.

    Raises ValueError, in one sentence, for the first bad choice. What depends on the model, the picture or the run (a
    method's name, a sample's number, a prompt's words) is checked where it is used.

    Examples
    --------
    >>> State(sample=3, words=(1,), opacity=0.5).but(sample=4).line()  # the words were those of another scene
    'xk.explore(sample=4, opacity=0.5)'
    """

    tab: str = "compare"
    run: str | None = None
    model: str = "tiny-clip"
    pretrained: str | None = None
    device: str = "cpu"
    batch_size: int = 64
    sample: int = 0
    image: str | None = None
    prompt: str | None = None
    methods: tuple[str, ...] = ("grad_eclip", "mmel")
    opacity: float = 0.6
    colours: str = "magma"
    upsampling: str = "nearest"
    threshold: float = 0.5
    mask: bool = True
    method: str = "grad_eclip"
    words: tuple[int, ...] = ()
    alpha: float = RECURSION["alpha"]
    coupling: str = RECURSION["coupling"]
    iterations: int = RECURSION["iterations"]
    word: int = 0
    time: int | None = None
    mode: int = 0
    concept: int | None = None
    multimodal_model: str = "tiny-llava"
    question: str = "describe the picture"
    msea: bool = True
    arc: bool = True
    token: int | None = None
    perturbation: str = "deletion"
    share: float = 0.25
    fill: str = "mean"
    masked: tuple[int, ...] = ()
    table: str | None = None
    sort: str | None = None
    descending: bool = True
    explainer: str | None = None
    metric: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value = field.name, _plain(getattr(self, field.name))
            object.__setattr__(self, name, value)
            if value is None and field.default is None:
                continue
            if name in ONE_OF:
                check_choices(**{name: (value, ONE_OF[name])})
            elif field.type in (str, str | None):
                if not isinstance(value, str) or not (value.strip() or name in MAY_BE_EMPTY):
                    none = ", or None" if field.default is None else ""
                    raise ValueError(f"{name}={value!r}: a name is needed{none}")
            elif field.type in (int, int | None):
                check_whole(LEAST.get(name, 0), **{name: value})
            elif field.type is float:
                open_ends = name == "alpha"
                check_number(*RANGES[name], open_low=open_ends, open_high=open_ends, **{name: value})
            elif field.type is bool:
                check_flags(**{name: value})
            elif field.type == tuple[int, ...]:
                if not isinstance(value, tuple):
                    raise ValueError(f"{name}={value!r}: a list of whole numbers is needed")
                for place in value:
                    check_whole(0, **{name: place})
        check_names(methods=self.methods)
        if len(self.methods) > MOST_METHODS or not all(isinstance(name, str) for name in self.methods):
            raise ValueError(f"methods={list(self.methods)!r}: names of one to {MOST_METHODS} methods are needed")

    def but(self, **changes: Any) -> "State":
        """The state with other choices; what was about the picture, the words or the table before is reset (``RESETS``).

        Raises ValueError for a bad or unknown choice.
        """
        for name in changes:
            check_known("choice", name, [field.name for field in dataclasses.fields(State)])
        changes = {name: _plain(value) for name, value in changes.items()}
        reset = {of for name, value in changes.items() if value != getattr(self, name) for of in RESETS.get(name, ())}
        fresh = {name: getattr(State, name) for name in reset}
        return dataclasses.replace(self, **{**fresh, **changes})

    @property
    def chosen(self) -> dict[str, Any]:
        """The choices that are not the default, in order; tuples as lists, as they would be typed."""
        changed = {name: value for name, value in vars(self).items() if value != getattr(State, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}

    def line(self, given: bool = False, **named: Any) -> str:
        """The line of code that shows the same again. given : scenes are handed over by the name ``scenes``. named : choices to
        be written even where they are the default."""
        choices = ", ".join(f"{name}={value!r}" for name, value in (self.chosen | named).items())
        return f"xk.explore({', '.join(filter(None, ('scenes' if given else '', choices)))})"


def _plain(value: Any) -> Any:
    """Numbers and text of numpy as Python's own, arrays and lists as tuples, paths as text."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        return tuple(_plain(each) for each in value)
    return str(value) if isinstance(value, PurePath) else value
