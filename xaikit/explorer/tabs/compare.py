"""The tab Compare."""

from ipywidgets import Checkbox, Dropdown, Layout

from ..drawn import Drawn
from ..state import COLOURS, MOST_METHODS, UPSAMPLING, State
from ..widgets.picture import Picture
from .tab import Legend, Tab, dropdown, opacity_slider, row, threshold_slider

NONE = "(none)"


class CompareTab(Tab):
    """One picture, and up to four methods beside it."""

    def __init__(self, change):
        super().__init__(change)
        self.bind("opacity", opacity_slider())
        self.bind("threshold", threshold_slider())
        self.bind("mask", Checkbox(description="outline the mask", indent=False, layout=Layout(width="150px")))
        self.bind("colours", dropdown("colours", COLOURS))
        self.bind("upsampling", dropdown("upsampling", UPSAMPLING))
        self.image = Picture()
        self.maps = [Picture() for _ in range(MOST_METHODS)]
        self.pickers = [
            Dropdown(
                options=[NONE], layout=Layout(width="240px"), description=f"method {index + 1}", tooltip="",
                style={"description_width": "84px"},
            )
            for index in range(MOST_METHODS)
        ]  # fmt: skip
        for picker in self.pickers:
            picker.observe(self._pick, "value")
        self.legend = Legend()
        sliders = row(*(self.controls[name] for name in ("opacity", "threshold", "mask", "colours", "upsampling")))
        self.children = [sliders, row(*self.pickers), row(self.image, *self.maps), self.legend]

    def fill(self, state: State, drawn: Drawn) -> None:
        """Show the picture and a map for each method."""
        self.image.show(drawn.panels["image"])
        for index, (picker, picture) in enumerate(zip(self.pickers, self.maps, strict=True)):
            name = state.methods[index] if index < len(state.methods) else NONE
            known = [NONE, *dict.fromkeys([*drawn.choices["methods"], *state.methods])]
            if list(picker.options) != known:
                picker.options = known
            picker.value = name
            picture.show(drawn.panels.get(f"map {index}"))
        self.legend.show(drawn)

    def _pick(self, event) -> None:
        names = [picker.value for picker in self.pickers if picker.value != NONE]
        self.tell(methods=list(dict.fromkeys(names)) or [event["old"]])
