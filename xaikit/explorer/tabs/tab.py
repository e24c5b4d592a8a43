"""What all tabs do: controls say what the user chooses, and follow what is shown."""

import html
import threading
from collections.abc import Callable, Collection
from typing import Any

from ipywidgets import HTML, Dropdown, FloatSlider, HBox, Layout, VBox, Widget

from ..drawn import Drawn, Panel
from ..state import State
from ..widgets.picture import Picture

SLIDER = {"layout": Layout(width="250px"), "style": {"description_width": "84px"}}
DROPDOWN = {"layout": Layout(width="196px"), "style": {"description_width": "84px"}}


class Tab(VBox):
    """A view's controls and pictures. change : called with the choices that the user makes."""

    def __init__(self, change: Callable[..., None]):
        super().__init__(layout=Layout(width="100%", padding="4px 0"))
        self.change = change
        self.controls: dict[str, Widget] = {}
        self._quiet = threading.local()  # whether this thread sets controls itself

    def bind(self, choice: str, control: Widget) -> Widget:
        """Let a control's value be a choice of the state, both ways."""
        self.controls[choice] = control
        control.tooltip = control.tooltip or ""  # None is shown as "null"
        control.observe(lambda event: self.tell(**{choice: event["new"]}), "value")
        return control

    def tell(self, **changes: Any) -> None:
        """Say what the user chose, but not what ``show`` itself sets."""
        if not getattr(self._quiet, "on", False):
            self.change(**changes)

    def show(self, state: State, drawn: Drawn, kept: Collection[str] = ()) -> None:
        """Show what was drawn, and set the controls to the state, but for those of the choices ``kept``."""
        self._quiet.on = True
        try:
            for choice, control in self.controls.items():
                if choice in kept:
                    continue
                value = getattr(state, choice)
                follow(control, drawn.chosen.get(choice) if value is None else value, drawn.choices.get(choice))
            self.fill(state, drawn)
        finally:
            self._quiet.on = False

    def fill(self, state: State, drawn: Drawn) -> None:
        """Show the pictures and words; controls that are bound are set already."""
        raise NotImplementedError


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


def opacity_slider() -> FloatSlider:
    """How much of the map and of the picture is seen."""
    return FloatSlider(0.6, min=0, max=1, step=0.05, description="opacity", readout_format=".2f", **SLIDER)


def threshold_slider() -> FloatSlider:
    """From which share of the largest heat on a pixel is in the mask."""
    return FloatSlider(0.5, min=0, max=1, step=0.01, description="threshold", readout_format=".2f", **SLIDER)


def dropdown(description: str, options: Any) -> Dropdown:
    """A labelled list to choose from."""
    return Dropdown(options=options, description=description, **DROPDOWN)


def row(*children: Widget) -> HBox:
    """Side by side, on more lines where the window is narrow."""
    return HBox(children, layout=Layout(flex_flow="row wrap", width="100%", align_items="flex-start"))


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
