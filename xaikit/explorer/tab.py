"""What all tabs do: their controls say what the user chooses and follow what is shown, and their pictures show it."""

import html
import threading
from collections.abc import Callable, Collection
from typing import Any

from ipywidgets import HTML, Button, Checkbox, Dropdown, FloatSlider, HBox, IntSlider, Layout, VBox, Widget

from ..files.checks import COUPLINGS, FILLS
from .panels import Drawn, Panel
from .state import COLOURS, PERTURBATIONS, UPSAMPLING, State
from .widgets import Picture


class Sentences(HTML):
    """Plain text, a line each."""

    def say(self, *sentences: str) -> None:
        """Show these sentences, whatever is in them."""
        self.value = "<br>".join(html.escape(sentence, quote=False) for sentence in sentences)


class Legend(HBox):
    """A colour bar and what it says."""

    def __init__(self):
        self.bar, self.text = Picture(), Sentences()
        super().__init__([self.bar, self.text], layout=Layout(align_items="center", flex_flow="row wrap"))
        self.bar.add_class("xaikit-legend")

    def show(self, drawn: Drawn) -> None:
        """Show the legend of what was drawn, if it has one."""
        png, text = drawn.legend or (b"", "")
        self.bar.show(Panel("", png, alt=f"colour bar: {text}"))
        self.text.say(text)


class Tab(VBox):
    """A view's controls and pictures. change : called with the choices that the user makes.

    controls : by the choice that each stands for. pictures : by the panel that each shows. words : those that can be pressed.
    sentence : the one that is said beside them.
    """

    sentence: str | None = None

    def __init__(self, change: Callable[..., None]):
        super().__init__(layout=Layout(width="100%", padding="4px 0"))
        self.change, self.state = change, State()
        self.controls: dict[str, Widget] = {}
        self.pictures: dict[str, Picture] = {}
        self.legend, self.said, self.words = Legend(), Sentences(), None
        self._releases: dict[str, Button] = {}
        self._quiet = threading.local()  # whether this thread sets controls itself

    def bind(self, choice: str, control: Widget) -> Widget:
        """Let a control's value be a choice of the state, both ways."""
        self.controls[choice] = control
        control.tooltip = control.tooltip or ""  # None is shown as "null"
        control.observe(lambda event: self.tell(**{choice: event["new"]}), "value")
        return control

    def bound(self, *choices: str) -> list[Widget]:
        """Controls of ``CONTROLS``, bound to their choices."""
        return [self.bind(choice, kind(*about)) for choice in choices for kind, *about in [CONTROLS[choice]]]

    def panel(self, name: str, press: Callable[[int], None] | None = None) -> Picture:
        """The picture that shows a panel of what is drawn, hidden while there is none."""
        self.pictures[name] = Picture(press) if press else Picture()
        return self.pictures[name]

    def release(self, choice: str, name: str) -> Button:
        """A button that chooses none of what can be pressed."""
        self._releases[choice] = button = Button(description=name, layout=Layout(width="110px", margin="4px 12px"))
        button.on_click(lambda pressed: self.tell(**{choice: ()}))
        return button

    def tell(self, **changes: Any) -> None:
        """Say what the user chose, but not what ``show`` itself sets."""
        if not getattr(self._quiet, "on", False):
            self.change(**changes)

    def toggle(self, choice: str, place: int) -> None:
        """Choose a place as well, or no longer."""
        self.tell(**{choice: tuple(sorted({*getattr(self.state, choice)} ^ {place}))})

    def show(self, state: State, drawn: Drawn, kept: Collection[str] = ()) -> None:
        """Show what was drawn, and set the controls to the state, but for those of the choices ``kept``."""
        self._quiet.on = True
        self.state = state
        try:
            for choice, control in self.controls.items():
                if choice not in kept:
                    value = getattr(state, choice)
                    follow(control, drawn.chosen.get(choice) if value is None else value, drawn.choices.get(choice))
            for name, picture in self.pictures.items():
                picture.show(drawn.panels.get(name))
            for choice, button in self._releases.items():
                button.disabled = not getattr(state, choice)
            self.legend.show(drawn)
            if self.words is not None:
                self.words.show(drawn.words)
            if self.sentence is not None:
                self.said.say(drawn.sentences[self.sentence])
            self.fill(drawn)
        finally:
            self._quiet.on = False

    def fill(self, drawn: Drawn) -> None:
        """Show what only this tab has."""


def follow(control: Widget, value: Any, choices: Any = None) -> None:
    """Set a control's choices, a list of values or a range (low, high), and its value. A value of None stays as it is; the
    range of a slider that was given none grows to hold the value."""
    if isinstance(choices, tuple):
        low, high = choices
        with control.hold_trait_notifications():
            control.min, control.max = low, high
            control.value = min(max(control.value if value is None else value, low), high)
    elif choices is not None and list(choices) != list(control.options):
        control.options = list(choices)
    elif value is not None and hasattr(control, "max"):
        control.min, control.max = min(control.min, value), max(control.max, value)
    if value is not None and control.value != value:
        control.value = value


# controls


def slider(name: str, low: float, high: float, step: float | None = None, settled: bool = False, form: str = ".2f"):
    """A labelled slider over whole numbers, or over numbers by steps. settled : only the value that the user lets go at
    counts, for one that starts a computation."""
    kind, about = (IntSlider, {}) if step is None else (FloatSlider, {"step": step, "readout_format": form})
    style = {"layout": Layout(width="250px"), "style": {"description_width": "84px"}}
    return kind(low, min=low, max=high, description=name, continuous_update=not settled, **about, **style)


def dropdown(name: str, options: Collection[str] = (), width: str = "196px") -> Dropdown:
    """A labelled list to choose from."""
    return Dropdown(
        options=options, description=name, tooltip="", layout=Layout(width=width), style={"description_width": "84px"}
    )


def tick_box(name: str, width: str, meaning: str = "") -> Checkbox:
    """A labelled box to tick."""
    return Checkbox(description=name, tooltip=meaning, indent=False, layout=Layout(width=width))


# What makes the control of a choice, and with what.
CONTROLS = {
    "opacity": (slider, "opacity", 0, 1, 0.05),
    "threshold": (slider, "threshold", 0, 1, 0.01),
    "mask": (tick_box, "outline the mask", "150px"),
    "colours": (dropdown, "colours", COLOURS),
    "upsampling": (dropdown, "upsampling", UPSAMPLING),
    "method": (dropdown, "method", ["grad_eclip"]),
    "alpha": (slider, "alpha", 0.05, 1.95, 0.05, True),
    "iterations": (slider, "iterations", 5, 60, None, True),
    "coupling": (dropdown, "coupling", COUPLINGS),
    "time": (slider, "time t", 0, 20),
    "msea": (tick_box, "MSEA", "80px", "average the maps over three sizes of the picture"),
    "arc": (tick_box, "ARC", "80px", "subtract the maps of earlier words by how little they agree with this one"),
    "perturbation": (dropdown, "perturbation", PERTURBATIONS),
    "share": (slider, "share", 0, 1, 0.01, False, ".0%"),
    "fill": (dropdown, "fill", FILLS),
    "table": (dropdown, "table"),
}


def row(*children: Widget) -> HBox:
    """Side by side, on more lines where the window is narrow."""
    return HBox(children, layout=Layout(flex_flow="row wrap", width="100%", align_items="flex-start"))


def wide(picture: Picture) -> VBox:
    """A box for a picture that is wider than others."""
    box = VBox([picture], layout=Layout(flex="2 1 420px", max_width="768px"))
    box.add_class("xaikit-wide")
    return box
