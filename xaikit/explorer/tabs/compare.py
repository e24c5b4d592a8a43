"""The tab Compare."""

from ipywidgets import Checkbox, Dropdown, Layout, VBox

from ..drawn import Drawn
from ..state import COLOURS, MOST_METHODS, UPSAMPLING, State
from ..widgets import Picture
from .tab import Legend, Tab, dropdown, opacity_slider, row, threshold_slider

NONE = "(none)"


class CompareTab(Tab):
    """One picture, up to four methods beside it, each chosen above its map."""

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
                options=[NONE], layout=Layout(width="auto"), description=f"method {index + 1}",
                style={"description_width": "64px"},
            )
            for index in range(MOST_METHODS)
        ]  # fmt: skip
        for picker in self.pickers:
            picker.observe(self._pick, "value")
        self.legend = Legend()
        columns = [
            VBox([picker, picture], layout=Layout(flex="1 1 200px", min_width="180px", max_width="388px"))
            for picker, picture in zip(self.pickers, self.maps, strict=True)
        ]
        image = VBox(
            [self.image], layout=Layout(flex="1 1 200px", min_width="180px", max_width="388px", padding="32px 0 0")
        )
        sliders = row(*(self.controls[name] for name in ("opacity", "threshold", "mask", "colours", "upsampling")))
        self.children = [sliders, row(image, *columns), self.legend]

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
