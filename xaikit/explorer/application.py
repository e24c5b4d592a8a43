"""The explorer's widgets: what all tabs share, and the tabs."""

import base64
import html
import logging
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from IPython.display import Image
from ipywidgets import HTML, Button, Dropdown, HBox, IntProgress, IntSlider, Layout, Tab as Tabs, Text, VBox

from ..files.models import CLIPS
from . import export
from .exploration import Exploration
from .sources import known_runs
from .state import TABS, State
from .tabs import follow, tab_class
from .widgets import Alert, Names, Picture, Sentences, Upload
from .workspace import Workspace

log = logging.getLogger(__name__)
NO_RUN = "(scenes drawn now)"
TYPED = ("prompt", "question")  # what is typed stays where it was typed, to be mended, when it can't be shown


class Explorer(Exploration, VBox):
    """The application. ``state`` is what is shown, ``drawn`` the pictures and numbers; ``set`` changes it from code.

    What the user does goes through ``change``: what is computed already is shown at once, anything else is computed in a
    thread, with a progress bar and a button to cancel; the latest wish wins. What goes wrong is one sentence in the view.

    Examples
    --------
    >>> app = explore(methods=["edge"]).set(sample=2)
    >>> app.numbers.columns.tolist(), len(app.numbers)
    (['row', 'col', 'edge'], 64)
    """

    def __init__(self, workspace: Workspace, state: State):
        VBox.__init__(self, layout=Layout(width="100%"))
        Exploration.__init__(self, workspace)
        self._quiet = threading.local()  # whether this thread sets controls itself
        self._build()
        self.set(**vars(state))

    # from code

    def __repr__(self) -> str:
        return self.code

    def _repr_mimebundle_(self, **how: Any) -> dict[str, Any]:
        """Beside the widget a picture of the view, for where no widget can be shown."""
        bundle = super()._repr_mimebundle_(**how)
        return bundle | {"text/plain": repr(self), "image/jpeg": base64.b64encode(self.picture.data).decode()}

    @property
    def numbers(self) -> pd.DataFrame:
        """The numbers behind the view."""
        return self.drawn.numbers

    @property
    def picture(self) -> Image:
        """The view as one picture, for a notebook's cell."""
        return Image(export.view_picture(self.code, self.drawn, "jpeg"), format="jpeg")

    @property
    def notes(self) -> pd.DataFrame:
        """What stands below each picture of the view, and the sentences beside them."""
        notes = {panel.title: panel.note for panel in self.drawn.panels.values()}
        return pd.Series(notes | self.drawn.sentences).to_frame("note")

    def export(self, folder: str | Path = ".") -> list[Path]:
        """Write the view as PNG, its numbers as CSV and a script that shows it again into a folder, and what the script
        needs: the uploaded picture, or the scenes that were handed over. Returns the files; those of an earlier export of
        the same view of the same picture are replaced. The folder is made if it isn't there; FileExistsError for a file."""
        return export.save(self.workspace, self.state, self.code, self.drawn, folder)

    # from the user

    def change(self, **changes: Any) -> None:
        """Show other choices, in the background where something must be computed first."""
        if not getattr(self._quiet, "on", False):
            super().change(**changes)

    def upload(self, name: str, content: bytes) -> None:
        """Show a picture of the user's own, with the prompt as it stands."""
        try:
            name = self.workspace.pictures.upload(name, content)
        except Exception as error:
            self._failed(error, {})
        else:
            self.change(image=name, prompt=self.prompt.value)

    # widgets

    def _build(self) -> None:
        narrow, picker = {"style": {"description_width": "60px"}, "tooltip": ""}, Layout(width="270px")
        self.run_picker = Dropdown(options=[NO_RUN], description="run", layout=picker, **narrow)
        self.model = Dropdown(options=CLIPS, description="model", layout=picker, **narrow)
        self.sample = IntSlider(description="scene", min=0, max=1, layout=Layout(width="300px"), **narrow)
        self.uploader = Upload(self.upload, lambda error: self._failed(error, {}))
        self.prompt = Text(description="prompt", continuous_update=False, layout=Layout(flex="1 1 400px"), **narrow)
        self.caption = Button(description="back to the scene", layout=Layout(width="160px"))
        self.error, self.notice, self.doing = Alert(), Sentences(), Sentences()
        self.progress = IntProgress(layout=Layout(width="200px"), bar_style="info", tooltip="")
        self.stop = Button(description="Cancel", icon="", button_style="warning", layout=Layout(width="90px"))
        hidden = Layout(visibility="hidden", align_items="center")
        self.working = HBox([self.progress, self.stop, self.doing], layout=hidden)
        self.pages = {name: VBox(layout=Layout(width="100%", min_height="420px")) for name in TABS}
        self.tabs = Tabs(list(self.pages.values()), titles=[name.capitalize() for name in TABS])
        self.exporter = Button(description="Export this view", layout=Layout(width="150px"))
        self.line, self.files, self.eye = HTML(), HTML(), Picture(seen=self.warm)
        self.add_class("xaikit-explorer")
        self._listen()
        wrapped = Layout(flex_flow="row wrap", width="100%", align_items="center")
        self.children = [
            HBox([self.run_picker, self.model, self.sample, self.uploader], layout=wrapped),
            HBox([self.prompt, self.caption], layout=wrapped),
            self.notice,
            self.error,
            self.working,
            self.tabs,
            HBox([self.exporter, self.files], layout=wrapped),
            self.line,
            self.eye,
            Names(),
        ]

    def _listen(self) -> None:
        """Let what the user does with the widgets be a change, what is chosen and what follows from it."""
        meanings = {
            self.run_picker: lambda run: {"run": None if run == NO_RUN else run},
            self.model: lambda model: {"model": model, "pretrained": None},
            self.sample: lambda sample: {"sample": sample, "image": None, "prompt": None},
            self.prompt: lambda prompt: {"prompt": prompt},
        }
        for control, meaning in meanings.items():
            control.observe(lambda event, meaning=meaning: self.change(**meaning(event["new"])), "value")
        self.tabs.observe(lambda event: self.change(tab=TABS[event["new"]]), "selected_index")
        self.caption.on_click(lambda button: self.change(image=None, prompt=None))
        self.stop.on_click(lambda button: self.cancel())
        self.exporter.on_click(lambda button: self._export())

    def _busy(self, what: str | None, done: int, total: int) -> None:
        """Say what is being done, None for nothing."""
        if what is not None:
            self.doing.say(f"{what} ({done} of {total} done)" if total > 1 else what)
            self.progress.max, self.progress.value = total, done
        self.working.layout.visibility = "hidden" if what is None else "visible"

    def _failed(self, error: Exception, changes: dict[str, Any]) -> None:
        """Say in one sentence what went wrong; everything else says again what is shown."""
        log.debug("the explorer could not show what was asked for", exc_info=error)
        self._shown({*TYPED} & {*changes})
        prompt = "prompt" in changes and self.drawn is not None and self.drawn.sentences.get("prompt")
        self.error.say(error, f" (still shown: {prompt})" if prompt else "")

    def _shown(self, kept: Collection[str] = ()) -> None:
        """Let all widgets say what is shown, but for the choices ``kept``, which stay as they were typed."""
        state, drawn = self.state, self.drawn
        if drawn is None:  # nothing was shown yet
            return
        self._quiet.on = True
        try:
            self._follow(state, kept)
            page = self.pages[state.tab]
            if not page.children:
                page.children = [tab_class(state.tab)(self.change)]
            page.children[0].show(state, drawn, kept)
            self.error.value = self.files.value = ""
            self.line.value = f"<code>{html.escape(self.code, quote=False)}</code>"
            self.notice.say(self.workspace.notice(state))
        finally:
            self._quiet.on = False

    def _follow(self, state: State, kept: Collection[str]) -> None:
        """Set what all tabs share to the state."""
        run = state.run or NO_RUN
        follow(self.run_picker, run, list(dict.fromkeys([NO_RUN, *known_runs(), run])))
        follow(self.model, state.model, list(dict.fromkeys([*CLIPS, state.model])))
        self.caption.disabled = captioned = state.image is None and state.prompt is None
        try:
            scenes = self.workspace.scenes(state)
        except (ValueError, FileNotFoundError):  # a run without scenes still has tables
            self.sample.disabled = True
        else:
            self.sample.disabled = False
            self.sample.max, self.sample.value = scenes.sizes["sample"] - 1, state.sample
            if "prompt" not in kept:
                self.prompt.value = str(scenes.caption.values[state.sample]) if captioned else state.prompt or ""
        self.tabs.selected_index = TABS.index(state.tab)

    def _export(self) -> None:
        try:
            self.files.value = export.links(self.workspace, self.state, self.code, self.drawn)
        except Exception as error:
            self._failed(error, {})


def explore(scenes: xr.Dataset | None = None, **choices: Any) -> Explorer:
    """Open the explorer: every method over every scene, or a picture of one's own, in six views.

    scenes : a dataset of the ``inputs`` schema to choose scenes from; None for those of ``run``, or of no run for 32 drawn
    on the spot. choices : of ``explorer.State``, such as ``tab="resonance"``, ``run="default"``, ``sample=3``,
    ``image="photo.jpg"`` with ``prompt="a dog"``, ``methods=["mmel", "rise"]``, ``model="ViT-B-32"`` with ``pretrained="openai"``; a
    run sets the models to its own.

    Returns the widget, shown by a notebook as a cell's last value. ``state`` and ``code`` say what it shows, ``set`` changes it,
    ``numbers`` and ``export`` give it away. Raises ValueError or FileNotFoundError, in one sentence, for a bad choice.

    Examples
    --------
    >>> explore(tab="compare", methods=["edge"], sample=1)
    xk.explore(sample=1, methods=['edge'])
    """
    state, workspace = State().but(**choices), Workspace(scenes)
    if state.run is not None:
        state = state.but(**{**workspace.models_of(state.run), **choices})
    return Explorer(workspace, state)
