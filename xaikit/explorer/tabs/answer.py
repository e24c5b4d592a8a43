"""The tab Answer."""

from ipywidgets import Checkbox, Layout, Text

from ..drawn import Drawn
from ..state import COLOURS, State
from ..widgets.picture import Picture
from ..widgets.words import Words
from .tab import Legend, Sentences, Tab, dropdown, opacity_slider, row, threshold_slider


class AnswerTab(Tab):
    """A question, the answer's tokens as buttons, the pressed one's map, and the earlier words that are subtracted."""

    def __init__(self, change):
        super().__init__(change)
        question = Text(
            description="question", continuous_update=False, layout=Layout(flex="1 1 400px", min_width="240px")
        )
        question.style.description_width = "64px"
        self.bind("question", question)
        self.bind("msea", _switch("MSEA", "average the maps over three sizes of the picture"))
        self.bind("arc", _switch("ARC", "subtract the maps of earlier words by how little they agree with this one"))
        self.bind("opacity", opacity_slider())
        self.bind("threshold", threshold_slider())
        self.bind("colours", dropdown("colours", COLOURS))
        self.said = Sentences()
        self.words = Words(lambda place: self.tell(token=place), label="words of the answer")
        self.image, self.map, self.context, self.legend = Picture(), Picture(), Picture(), Legend()
        controls = self.controls
        self.children = [
            row(question),
            row(*(controls[name] for name in ("msea", "arc", "opacity", "threshold", "colours"))),
            self.said,
            self.words,
            row(self.image, self.map, self.context),
            self.legend,
        ]

    def fill(self, state: State, drawn: Drawn) -> None:
        """Show the answer, its words and the pressed one's pictures."""
        self.said.say(drawn.sentences["answer"])
        self.words.show(drawn.words)
        for name in ("image", "map", "context"):
            getattr(self, name).show(drawn.panels[name])
        self.legend.show(drawn)


def _switch(name: str, meaning: str) -> Checkbox:
    return Checkbox(description=name, tooltip=meaning, indent=False, layout=Layout(width="80px"))
