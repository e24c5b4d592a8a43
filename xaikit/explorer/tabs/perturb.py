"""The tab Perturb."""

from ipywidgets import Button, FloatSlider, Layout

from ..drawn import Drawn
from ..state import FILLS, PERTURBATIONS, State
from ..widgets.picture import Picture
from .tab import SLIDER, Legend, Sentences, Tab, dropdown, row


class PerturbTab(Tab):
    """The picture as the model gets it, whose patches can be pressed, the map, and the similarity against the share."""

    def __init__(self, change):
        super().__init__(change)
        self.bind("method", dropdown("method", ["grad_eclip"]))
        self.bind("perturbation", dropdown("perturbation", PERTURBATIONS))
        share = FloatSlider(0.25, min=0, max=1, step=0.01, description="share", readout_format=".0%", **SLIDER)
        self.bind("share", share)
        self.bind("fill", dropdown("fill", FILLS))
        self.picture, self.map, self.curve = Picture(self._press), Picture(), Picture()
        self.none = Button(description="unmask all", layout=Layout(width="110px"))
        self.none.on_click(lambda button: self.tell(masked=()))
        self.said, self.legend = Sentences(), Legend()
        controls = row(*self.controls.values())
        self.children = [
            controls, row(self.picture, self.map, self.curve), row(self.none, self.said), self.legend,
        ]  # fmt: skip
        self._masked: tuple[int, ...] = ()

    def fill(self, state: State, drawn: Drawn) -> None:
        """Show the three pictures and what is said of the patches masked by hand."""
        self._masked = state.masked
        self.none.disabled = not state.masked
        self.picture.show(drawn.panels["picture"])
        self.map.show(drawn.panels["map"])
        self.curve.show(drawn.panels["curve"])
        self.said.say(drawn.sentences["masked"])
        self.legend.show(drawn)

    def _press(self, place: int) -> None:
        """Mask a patch, or let it be seen again."""
        self.tell(masked=tuple(sorted({*self._masked} ^ {place})))
