"""The tabs: each has the controls and the pictures of one view. A name of ``state.TABS`` is the class ``NameTab`` here."""

from functools import partial
from typing import Any

from ipywidgets import Layout, Play, Text, VBox

from .panels import Drawn
from .state import MOST_METHODS, MOST_SAMPLES
from .tab import Sentences, Tab, dropdown, follow, row, wide
from .widgets import TableView, Words

NO_METHOD = "(none)"
INTERVAL = 300  # milliseconds from one map of a film to the next


class CompareTab(Tab):
    """One picture, and up to four methods beside it."""

    def __init__(self, change):
        super().__init__(change)
        controls = row(*self.bound("opacity", "threshold", "mask", "colours", "upsampling"))
        self.image = self.panel("image")
        self.maps = [self.panel(f"map {index}") for index in range(MOST_METHODS)]
        self.pickers = [dropdown(f"method {index + 1}", [NO_METHOD], "240px") for index in range(MOST_METHODS)]
        for picker in self.pickers:
            picker.observe(self._pick, "value")
        self.children = [controls, row(*self.pickers), row(self.image, *self.maps), self.legend]

    def fill(self, drawn: Drawn) -> None:
        """Show which methods there are, and which are chosen."""
        chosen = self.state.methods
        known = [NO_METHOD, *dict.fromkeys([*drawn.choices["methods"], *chosen])]
        for index, picker in enumerate(self.pickers):
            follow(picker, chosen[index] if index < len(chosen) else NO_METHOD, known)

    def _pick(self, event) -> None:
        names = [picker.value for picker in self.pickers if picker.value != NO_METHOD]
        self.tell(methods=list(dict.fromkeys(names)) or [event["old"]])


class WordsTab(Tab):
    """The prompt's words as buttons, the map of the whole prompt and that of the pressed words."""

    sentence = "words"

    def __init__(self, change):
        super().__init__(change)
        controls = row(*self.bound("method", "opacity", "threshold"))
        self.words = Words(partial(self.toggle, "words"), label="words of the prompt")
        self.none = self.release("words", "release all")
        self.pressed = self.panel("pressed")
        pictures = row(self.panel("whole"), self.pressed)
        self.children = [controls, row(self.words, self.none), self.said, pictures, self.legend]


class ResonanceTab(Tab):
    """A word's map over time, as a film; the modes of its course; the concepts of the whole prompt."""

    def __init__(self, change):
        super().__init__(change)
        self.play = Play(min=0, max=20, interval=INTERVAL, show_repeat=True, layout=Layout(width="150px"))
        self.play.observe(lambda event: self.tell(time=event["new"]), "value")
        # another word may have fewer modes
        self.words = Words(lambda place: self.tell(word=place, mode=0), label="words of the prompt")
        self.map, self.concept = self.panel("map"), self.panel("concept")
        self.size, self.angle = self.panel("mode size"), self.panel("mode angle")
        self.filmstrip, self.plane, self.tree = (
            self.panel(name, partial(self._press, choice, name))
            for choice, name in (("time", "filmstrip"), ("mode", "plane"), ("concept", "tree"))
        )
        self._choices: dict[str, Any] = {}
        self.children = [
            row(*self.bound("alpha", "iterations", "coupling")),
            self.words,
            row(self.play, *self.bound("time", "opacity", "colours")),
            row(self.map, wide(self.filmstrip)),
            self.legend,
            row(self.plane, self.size, self.angle),
            row(wide(self.tree), self.concept),
        ]

    def fill(self, drawn: Drawn) -> None:
        """Show how far time goes."""
        self._choices = drawn.choices
        self.play.max = drawn.choices["time"][1]
        self.play.value = self.controls["time"].value  # which is set already

    def _press(self, choice: str, picture: str, spot: int) -> None:
        """Choose what a spot stands for; one of a picture shown before may be gone."""
        if spot < len(self._choices[picture]):
            self.tell(**{choice: self._choices[picture][spot]})


class AnswerTab(Tab):
    """A question, the answer's tokens as buttons, the pressed one's map, and the earlier words that are subtracted."""

    sentence = "answer"

    def __init__(self, change):
        super().__init__(change)
        layout = Layout(flex="1 1 400px", min_width="240px")
        question = self.bind("question", Text(description="question", continuous_update=False, layout=layout))
        question.style.description_width = "64px"
        controls = row(*self.bound("msea", "arc", "opacity", "threshold", "colours"))
        self.words = Words(lambda place: self.tell(token=place), label="words of the answer")
        self.map, self.context = self.panel("map"), self.panel("context")
        pictures = row(self.panel("image"), self.map, self.context)
        self.children = [row(question), controls, self.said, self.words, pictures, self.legend]


class PerturbTab(Tab):
    """The picture as the model gets it, whose patches can be pressed, the map, and the similarity against the share."""

    sentence = "masked"

    def __init__(self, change):
        super().__init__(change)
        controls = row(*self.bound("method", "perturbation", "share", "fill"))
        self.picture = self.panel("picture", partial(self.toggle, "masked"))
        self.map, self.curve = self.panel("map"), self.panel("curve")
        self.none = self.release("masked", "unmask all")
        self.children = [controls, row(self.picture, self.map, self.curve), row(self.none, self.said), self.legend]


class RunsTab(Tab):
    """A table of what the run measured; its heads sort it, and a cell that is pressed shows its samples below."""

    def __init__(self, change):
        super().__init__(change)
        (choice,) = self.bound("table")
        self.about = Sentences()
        self.table = TableView(self._sort, self._press, lambda: self.tell(sort=None, descending=True))
        self.best, self.worst = (
            [self.panel(f"{name} {rank}", partial(self._open, f"{name} {rank}")) for rank in range(MOST_SAMPLES)]
            for name in ("best", "worst")
        )
        self._scenes: dict[str, int] = {}
        rows = VBox([row(*self.best), row(*self.worst)])
        self.children = [choice, self.about, self.table, self.legend, self.said, rows]

    def fill(self, drawn: Drawn) -> None:
        """Show the table, and what is said of it and of the samples behind the pressed cell."""
        self._scenes = drawn.choices.get("scenes", {})
        said = drawn.sentences
        self.about.say(*(said[name] for name in ("record", "unreadable", "table") if name in said))
        self.controls["table"].disabled = drawn.table is None
        self.table.show(drawn.table)
        self.said.say(said.get("samples", "Press a cell to see the samples behind it." if drawn.table else ""))

    def _sort(self, column: str) -> None:
        """Sort by a column, largest first; by the same one again the other way round."""
        self.tell(sort=column, descending=not (self.state.sort == column and self.state.descending))

    def _press(self, explainer: str, metric: str) -> None:
        """Show the samples of a cell, or no more of it."""
        same = (explainer, metric) == (self.state.explainer, self.state.metric)
        self.tell(explainer=None if same else explainer, metric=None if same else metric)

    def _open(self, place: str, spot: int) -> None:
        """Open a sample's scene in Compare, by its explainer where that is a method."""
        if place in self._scenes:
            methods = {"methods": [self.state.explainer]} if self.state.explainer.isidentifier() else {}
            self.tell(tab="compare", sample=self._scenes[place], image=None, prompt=None, **methods)


def tab_class(name: str) -> type[Tab]:
    """The class of a tab."""
    return globals()[f"{name.capitalize()}Tab"]
