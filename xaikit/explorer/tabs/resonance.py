"""The tab Resonance."""

from ipywidgets import FloatSlider, IntSlider, Layout, Play, VBox

from ..drawn import Drawn
from ..state import COLOURS, COUPLINGS, State
from ..widgets.picture import Picture
from ..widgets.words import Words
from .tab import SLIDER, Legend, Tab, dropdown, opacity_slider, row

INTERVAL = 300  # milliseconds from one map to the next
SETTLED = {"continuous_update": False}  # each value starts a computation, so only the one that the user lets go at


class ResonanceTab(Tab):
    """A word's map over time, as a film; the modes of its course; the concepts of the whole prompt."""

    def __init__(self, change):
        super().__init__(change)
        self.bind(
            "alpha",
            FloatSlider(
                0.5, min=0.05, max=1.95, step=0.05, description="alpha", readout_format=".2f", **SETTLED, **SLIDER
            ),
        )
        self.bind("coupling", dropdown("coupling", COUPLINGS))
        self.bind("iterations", IntSlider(20, min=5, max=60, description="iterations", **SETTLED, **SLIDER))
        self.bind("time", IntSlider(20, min=0, max=20, description="time t", **SLIDER))
        self.bind("opacity", opacity_slider())
        self.bind("colours", dropdown("colours", COLOURS))
        self.play = Play(min=0, max=20, interval=INTERVAL, show_repeat=True, layout=Layout(width="150px"))
        self.play.observe(lambda event: self.tell(time=event["new"]), "value")
        # another word may have fewer modes
        self.words = Words(lambda place: self.tell(word=place, mode=0), label="words of the prompt")
        self.map, self.size, self.angle, self.concept = (Picture() for _ in range(4))
        self.filmstrip = Picture(lambda spot: self._press("time", "filmstrip", spot))
        self.plane = Picture(lambda spot: self._press("mode", "plane", spot))
        self.tree = Picture(lambda spot: self._press("concept", "tree", spot))
        self.legend = Legend()
        self._spots: dict[str, list[int]] = {}
        controls = self.controls
        self.children = [
            row(controls["alpha"], controls["iterations"], controls["coupling"]),
            self.words,
            row(self.play, controls["time"], controls["opacity"], controls["colours"]),
            row(self.map, _wide(self.filmstrip)),
            self.legend,
            row(self.plane, self.size, self.angle),
            row(_wide(self.tree), self.concept),
        ]

    def fill(self, state: State, drawn: Drawn) -> None:
        """Show words, maps, modes and concepts."""
        self._spots = {name: drawn.choices[name] for name in ("filmstrip", "plane", "tree")}
        self.play.max = drawn.choices["time"][1]
        self.play.value = self.controls["time"].value  # which is set already
        self.words.show(drawn.words)
        pictures = {
            "map": self.map, "filmstrip": self.filmstrip, "plane": self.plane, "mode size": self.size,
            "mode angle": self.angle, "tree": self.tree, "concept": self.concept,
        }  # fmt: skip
        for name, picture in pictures.items():
            picture.show(drawn.panels.get(name))
        self.legend.show(drawn)

    def _press(self, choice: str, picture: str, spot: int) -> None:
        """Choose what a spot stands for; one of a picture shown before may be gone."""
        if spot < len(self._spots[picture]):
            self.tell(**{choice: self._spots[picture][spot]})


def _wide(picture: Picture) -> VBox:
    box = VBox([picture], layout=Layout(flex="2 1 420px", max_width="768px"))
    box.add_class("xaikit-wide")
    return box
