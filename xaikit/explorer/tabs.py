"""The tabs: which controls and pictures each view has, and what pressing them chooses. Controls and pictures follow what is shown."""

import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from ipywidgets import Button, Checkbox, Dropdown, FloatSlider, HBox, IntSlider, Layout, Play, Text, VBox, Widget

from ..files.checks import COUPLINGS, FILLS
from .panels import Drawn
from .state import COLOURS, MOST_METHODS, MOST_SAMPLES, PERTURBATIONS, UPSAMPLING, State
from .widgets import Picture, Sentences, TableView, Words

NO_METHOD = "(none)"
INTERVAL = 300  # milliseconds from one map of a film to the next
WIDE = ("filmstrip", "tree")  # pictures that take more room than others
LABELLED = {"description_width": "84px"}


def slider(name: str, low: float, high: float, step: float | None = None, settled: bool = False, form: str = ".2f"):
    """A labelled slider over whole numbers, or over numbers by steps. settled : only the value that the user lets go at
    counts, for one that starts a computation."""
    kind, about = (IntSlider, {}) if step is None else (FloatSlider, {"step": step, "readout_format": form})
    about |= {"min": low, "max": high, "continuous_update": not settled, "tooltip": ""}
    return kind(low, description=name, layout=Layout(width="250px"), style=LABELLED, **about)


def dropdown(name: str, options: Collection[str] = (), width: str = "196px") -> Dropdown:
    """A labelled list to choose from."""
    return Dropdown(options=options, description=name, tooltip="", layout=Layout(width=width), style=LABELLED)


def tick_box(name: str, width: str, meaning: str = "") -> Checkbox:
    """A labelled box to tick."""
    return Checkbox(description=name, tooltip=meaning, indent=False, layout=Layout(width=width))


def text_field(name: str) -> Text:
    """A labelled line of text, which counts once it is ended."""
    layout, style = Layout(flex="1 1 400px", min_width="240px"), {"description_width": "64px"}
    return Text(description=name, continuous_update=False, tooltip="", layout=layout, style=style)


# What makes the control of a choice, and with what. A tooltip of None would be shown as "null".
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
    "question": (text_field, "question"),
    "msea": (tick_box, "MSEA", "80px", "average the maps over three sizes of the picture"),
    "arc": (tick_box, "ARC", "80px", "subtract the maps of earlier words by how little they agree with this one"),
    "perturbation": (dropdown, "perturbation", PERTURBATIONS),
    "share": (slider, "share", 0, 1, 0.01, False, ".0%"),
    "fill": (dropdown, "fill", FILLS),
    "table": (dropdown, "table"),
}


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


class Tab(VBox):
    """A view's controls and pictures. change : called with the choices that the user makes.

    ROWS : what stands below one another, each a name or several side by side: of a choice, whose control it is, of one of
    ``parts``, else of a panel. SAID : which of the sentences that were drawn is said. WORDS : what the words are. RELEASE : the
    choice of which a button leaves nothing, and its text.
    """

    ROWS: tuple = ()
    SAID = WORDS = ""
    RELEASE = ("", "")

    def __init__(self, change: Callable[..., None]):
        super().__init__(layout=Layout(width="100%", padding="4px 0"))
        self.change, self.state, self.drawn = change, State(), None
        self._quiet = threading.local()  # whether this thread sets controls itself
        self.controls: dict[str, Widget] = {}
        self.pictures: dict[str, Picture] = {}
        self.words = Words(self.press_word, label=self.WORDS)
        self.release = Button(description=self.RELEASE[1], layout=Layout(width="110px", margin="4px 12px"))
        self.release.on_click(lambda pressed: self.tell(**{self.RELEASE[0]: ()}))
        self.legend, self.said = Picture(), Sentences()
        self.legend.add_class("xaikit-legend")
        self.parts = {"legend": self.legend, "said": self.said, "words": self.words, "release": self.release}
        self.make()
        wrapped = Layout(flex_flow="row wrap", width="100%", align_items="flex-start")
        self.children = [
            self._part(names) if isinstance(names, str) else HBox([*map(self._part, names)], layout=wrapped)
            for names in self.ROWS
        ]

    def __getitem__(self, panel: str) -> Picture:
        """The picture that shows a panel of what is drawn, hidden while there is none."""
        return self.pictures[panel]

    def make(self) -> None:
        """Make the ``parts`` that only this tab has."""

    def fill(self) -> None:
        """Show in them what was drawn."""

    def press_word(self, place: int) -> None:
        """Choose what a pressed word stands for."""

    def press(self, panel: str, spot: int) -> None:
        """Choose what a pressed spot of a panel stands for."""

    def _part(self, name: str) -> Widget:
        if name in self.parts:
            return self.parts[name]
        if name in CONTROLS:
            kind, *about = CONTROLS[name]
            self.controls[name] = control = kind(*about)
            control.observe(lambda event: self.tell(**{name: event["new"]}), "value")
            return control
        self.pictures[name] = picture = Picture(partial(self.press, name))
        if name not in WIDE:
            return picture
        box = VBox([picture], layout=Layout(flex="2 1 420px", max_width="768px"))
        box.add_class("xaikit-wide")
        return box

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
        self.state, self.drawn = state, drawn
        try:
            for choice, control in self.controls.items():
                if choice not in kept:
                    value = getattr(state, choice)
                    follow(control, drawn.chosen.get(choice) if value is None else value, drawn.choices.get(choice))
            for name, picture in self.pictures.items():
                picture.show(drawn.panels.get(name))
            self.release.disabled = not getattr(state, self.RELEASE[0], ())
            self.words.show(drawn.words)
            self.legend.show(drawn.legend)
            self.said.say(drawn.sentences.get(self.SAID, ""))
            self.fill()
        finally:
            self._quiet.on = False


class CompareTab(Tab):
    """One picture, and up to four methods beside it."""

    MAPS = tuple(f"map {index}" for index in range(MOST_METHODS))
    PICKERS = tuple(f"method {index + 1}" for index in range(MOST_METHODS))
    ROWS = (("opacity", "threshold", "mask", "colours", "upsampling"), PICKERS, ("image", *MAPS), "legend")

    def make(self) -> None:
        """The lists of methods."""
        self.pickers = [dropdown(name, [NO_METHOD], "240px") for name in self.PICKERS]
        self.parts |= zip(self.PICKERS, self.pickers, strict=True)
        for picker in self.pickers:
            picker.observe(self._pick, "value")

    def fill(self) -> None:
        """Which methods there are, and which are chosen."""
        chosen = self.state.methods
        known = [NO_METHOD, *dict.fromkeys([*self.drawn.choices["methods"], *chosen])]
        for index, picker in enumerate(self.pickers):
            follow(picker, chosen[index] if index < len(chosen) else NO_METHOD, known)

    def _pick(self, event) -> None:
        names = [picker.value for picker in self.pickers if picker.value != NO_METHOD]
        self.tell(methods=list(dict.fromkeys(names)) or [event["old"]])


class WordsTab(Tab):
    """The prompt's words as buttons, the map of the whole prompt and that of the pressed words."""

    ROWS = (("method", "opacity", "threshold"), ("words", "release"), "said", ("whole", "pressed"), "legend")
    SAID, WORDS, RELEASE = "words", "words of the prompt", ("words", "release all")

    def press_word(self, place: int) -> None:
        """Another word of the prompt that is made of them."""
        self.toggle("words", place)


class ResonanceTab(Tab):
    """A word's map over time, as a film; the modes of its course; the concepts of the whole prompt."""

    ROWS = (
        ("alpha", "iterations", "coupling"), "words", ("play", "time", "opacity", "colours"), ("map", "filmstrip"), "legend",
        ("plane", "mode size", "mode angle"), ("tree", "concept"),
    )  # fmt: skip
    WORDS = "words of the prompt"
    PRESSED = {"filmstrip": "time", "plane": "mode", "tree": "concept"}

    def make(self) -> None:
        """The film."""
        self.play = Play(min=0, max=20, interval=INTERVAL, show_repeat=True, layout=Layout(width="150px"))
        self.play.observe(lambda event: self.tell(time=event["new"]), "value")
        self.parts["play"] = self.play

    def fill(self) -> None:
        """How far time goes."""
        self.play.max = self.drawn.choices["time"][1]
        self.play.value = self.controls["time"].value  # which is set already

    def press_word(self, place: int) -> None:
        """Another word, which may have fewer modes."""
        self.tell(word=place, mode=0)

    def press(self, panel: str, spot: int) -> None:
        """What a spot stands for; one of a picture shown before may be gone."""
        if spot < len(self.drawn.choices[panel]):
            self.tell(**{self.PRESSED[panel]: self.drawn.choices[panel][spot]})


class AnswerTab(Tab):
    """A question, the answer's tokens as buttons, the pressed one's map, and the earlier words that are subtracted."""

    ROWS = (
        ("question",), ("msea", "arc", "opacity", "threshold", "colours"), "said", "words", ("image", "map", "context"), "legend",
    )  # fmt: skip
    SAID, WORDS = "answer", "words of the answer"

    def press_word(self, place: int) -> None:
        """Another token."""
        self.tell(token=place)


class PerturbTab(Tab):
    """The picture as the model gets it, whose patches can be pressed, the map, and the similarity against the share."""

    ROWS = (("method", "perturbation", "share", "fill"), ("picture", "map", "curve"), ("release", "said"), "legend")
    SAID, RELEASE = "masked", ("masked", "unmask all")

    def press(self, panel: str, spot: int) -> None:
        """Another patch to mask."""
        if panel == "picture":
            self.toggle("masked", spot)


class RunsTab(Tab):
    """A table of what the run measured; its heads sort it, and a cell that is pressed shows its samples below."""

    BEST, WORST = (tuple(f"{name} {rank}" for rank in range(MOST_SAMPLES)) for name in ("best", "worst"))
    ROWS = ("table", "about", "cells", "legend", "said", BEST, WORST)

    def make(self) -> None:
        """The table, and what is said of it."""
        self.about = Sentences()
        self.table = TableView(self._sort, self._press_cell, lambda: self.tell(sort=None, descending=True))
        self.parts |= {"about": self.about, "cells": self.table}
        self.add_class("xaikit-samples")

    def fill(self) -> None:
        """The table, and what is said of it and of the samples behind the pressed cell."""
        table, said = self.drawn.table, self.drawn.sentences
        self.about.say(*(said[name] for name in ("record", "table") if name in said))
        self.controls["table"].disabled = table is None
        self.table.show(table)
        self.said.say(said.get("samples", "Press a cell to see the samples behind it." if table else ""))

    def _sort(self, column: str) -> None:
        """Sort by a column, largest first; by the same one again the other way round."""
        self.tell(sort=column, descending=not (self.state.sort == column and self.state.descending))

    def _press_cell(self, explainer: str, metric: str) -> None:
        """Show the samples of a cell, or no more of it."""
        same = (explainer, metric) == (self.state.explainer, self.state.metric)
        self.tell(explainer=None if same else explainer, metric=None if same else metric)

    def press(self, panel: str, spot: int) -> None:
        """A sample's scene in Compare, by its explainer where that is a method."""
        scenes = self.drawn.choices.get("scenes", {})
        if panel in scenes:
            methods = {"methods": [self.state.explainer]} if self.state.explainer.isidentifier() else {}
            self.tell(tab="compare", sample=scenes[panel], image=None, prompt=None, **methods)


def tab_class(name: str) -> type[Tab]:
    """The class of a tab, one of ``state.TABS``."""
    return globals()[f"{name.capitalize()}Tab"]
