"""The tab Words."""

from ipywidgets import Button, Layout

from ..drawn import Drawn
from ..state import State
from ..widgets.picture import Picture
from ..widgets.words import Words
from .tab import Legend, Sentences, Tab, dropdown, opacity_slider, row, threshold_slider


class WordsTab(Tab):
    """The prompt's words as buttons, the map of the whole prompt and that of the pressed words."""

    def __init__(self, change):
        super().__init__(change)
        self.bind("method", dropdown("method", ["grad_eclip"]))
        self.bind("opacity", opacity_slider())
        self.bind("threshold", threshold_slider())
        self.words = Words(self._press, label="words of the prompt")
        self.none = Button(description="release all", layout=Layout(width="110px", margin="4px 0 4px 24px"))
        self.none.on_click(lambda button: self.tell(words=()))
        self.said = Sentences()
        self.whole, self.pressed, self.legend = Picture(), Picture(), Legend()
        controls = row(*(self.controls[name] for name in ("method", "opacity", "threshold")))
        self.children = [controls, row(self.words, self.none), self.said, row(self.whole, self.pressed), self.legend]
        self._places: tuple[int, ...] = ()

    def fill(self, state: State, drawn: Drawn) -> None:
        """Show words and maps."""
        self._places = state.words
        self.words.show(drawn.words)
        self.none.disabled = not state.words
        self.said.say(drawn.sentences["words"])
        self.whole.show(drawn.panels["whole"])
        self.pressed.show(drawn.panels["pressed"])
        self.legend.show(drawn)

    def _press(self, place: int) -> None:
        """Press a word, or let it go."""
        self.tell(words=tuple(sorted({*self._places} ^ {place})))
