"""The tab Runs."""

from functools import partial

from ipywidgets import VBox

from ..drawn import Drawn
from ..state import State
from ..views.runs import MOST
from ..widgets.picture import Picture
from ..widgets.table import TableView
from .tab import Legend, Sentences, Tab, dropdown, row

SENTENCES = ("record", "unreadable", "table")  # above the table, in this order


class RunsTab(Tab):
    """A table of what the run measured; its heads sort it, and a cell that is pressed shows its samples below."""

    def __init__(self, change):
        super().__init__(change)
        self.bind("table", dropdown("table", []))
        self.about, self.said = Sentences(), Sentences()
        self.table = TableView(self._sort, self._press, lambda: self.tell(sort=None, descending=True))
        self.legend = Legend()
        self.best, self.worst = (
            [Picture(partial(self._open, f"{name} {rank}")) for rank in range(MOST)] for name in ("best", "worst")
        )
        self._scenes: dict[str, int] = {}
        rows = VBox([row(*self.best), row(*self.worst)])
        self.children = [self.controls["table"], self.about, self.table, self.legend, self.said, rows]
        self._state = State()

    def fill(self, state: State, drawn: Drawn) -> None:
        """Show the table and the samples behind the pressed cell."""
        self._state, self._scenes = state, drawn.choices.get("scenes", {})
        self.about.say(*(drawn.sentences[name] for name in SENTENCES if name in drawn.sentences))
        self.controls["table"].disabled = drawn.table is None
        self.table.show(drawn.table)
        self.legend.show(drawn)
        ask = "Press a cell to see the samples behind it." if drawn.table else ""
        self.said.say(drawn.sentences.get("samples", ask))
        for name, pictures in (("best", self.best), ("worst", self.worst)):
            for rank, picture in enumerate(pictures):
                picture.show(drawn.panels.get(f"{name} {rank}"))

    def _sort(self, column: str) -> None:
        """Sort by a column, largest first; by the same one again the other way round."""
        self.tell(sort=column, descending=not (self._state.sort == column and self._state.descending))

    def _press(self, explainer: str, metric: str) -> None:
        """Show the samples of a cell, or no more of it."""
        same = (explainer, metric) == (self._state.explainer, self._state.metric)
        self.tell(explainer=None if same else explainer, metric=None if same else metric)

    def _open(self, place: str, spot: int) -> None:
        """Open a sample's scene in Compare, by its explainer where that is a method."""
        if place in self._scenes:
            methods = {"methods": [self._state.explainer]} if self._state.explainer.isidentifier() else {}
            self.tell(tab="compare", sample=self._scenes[place], image=None, prompt=None, **methods)
