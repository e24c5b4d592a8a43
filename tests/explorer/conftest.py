"""What the tests of the explorer share: the model, scenes, a workspace, pictures as pixels and files, runs on disk."""

import io
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

import xaikit as xk
from xaikit.explorer.jobs import Cancelled, Job, Missing
from xaikit.explorer.state import State
from xaikit.explorer.views import view
from xaikit.explorer.workspace import Workspace
from xaikit.files.store import annotate, inputs_digest, write


@pytest.fixture(scope="session")
def scenes():
    return xk.draw_scenes(n=6, seed=4, objects=(2, 3))


@pytest.fixture(scope="session")
def workspace(scenes, clip):
    return with_model(Workspace(scenes), clip)


def with_model(workspace, clip):
    """The workspace, as if it had loaded the model."""
    workspace._models.keep(("clip", *workspace.model_key(State())), clip)
    return workspace


def shown(workspace, **choices):
    """What a view draws of the default state with these choices."""
    state = State().but(**choices)
    return view(state.tab)(workspace, state, Job())


def pixels(panel):
    """What a panel, or a PNG, shows, uint8 (y, x, rgb)."""
    return np.asarray(Image.open(io.BytesIO(getattr(panel, "png", panel))).convert("RGB"))


def file_of(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def typed(line):
    """The choices that a line of code makes."""
    kept = {}
    eval(line, {"xk": type("xk", (), {"explore": staticmethod(lambda **choices: kept.update(choices))})})
    return kept


def said_without_torch(code):
    """What code prints in a Python of its own, which never imports torch."""
    code = f"import sys\n{code}\nassert not {{'torch', 'open_clip'}} & sys.modules.keys()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def cpu_seconds(work, *given):
    """How long it takes this process, whatever else the machine does."""
    start = time.process_time()
    work(*given)
    return time.process_time() - start


@contextmanager
def passes(module, then=lambda seen: None):
    """The sizes of the batches that pass through a torch module; ``then`` is called with them after each."""
    seen = []

    def count(module, given, found):
        seen.append(len(given[0]) if given else 0)
        then(seen)

    handle = module.register_forward_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


def cancelled_at_the_third(module, work):
    """Cancel a job while it works at the third pass of a module, after which there must be none."""
    job = Job()
    with passes(module, lambda seen: job.cancel() if len(seen) == 3 else None) as seen, pytest.raises(Cancelled):
        work(job)
    assert len(seen) == 3
    with pytest.raises(Missing):  # nothing half-done was kept
        work(None)


def followed(tab_class, state, draw):
    """A tab that shows every state that its user asks for, what it asked for, and the present state, in a list."""
    wishes, now = [], [state]

    def change(**changes):
        wishes.append(changes)
        now[0] = now[0].but(**changes)
        tab.show(now[0], draw(now[0]))

    tab = tab_class(change)
    tab.show(state, draw(state))
    assert not wishes  # following a state is no wish
    return tab, wishes, now


def every_control_followed(tab_class, state, draw, **wanted):
    """Set each control of a tab, to what is wanted or to another end or value: that is the choice, of which the tab then shows
    all that is drawn. Returns the tab and the present state, in a list."""
    tab, wishes, now = followed(tab_class, state, draw)
    for choice, control in tab.controls.items():
        ends = getattr(control, "options", None) or (getattr(control, "max", True), getattr(control, "min", False))
        control.value = wanted.get(choice) or next(each for each in ends if each != control.value)
        assert wishes[-1] == {choice: control.value} == {choice: getattr(now[0], choice)}
        panels = draw(now[0]).panels
        shown = {name: (each.png, each.title, each.note) for name, each in tab.pictures.items() if each.png}
        assert shown == {name: (panel.png, panel.title, panel.note) for name, panel in panels.items()}
    return tab, now


def write_run(folder, scenes, made_by=None, model="tiny-clip", **stores):
    """A run folder, as text, of scenes and stores (stage, dataset) by name, all said to be made from these."""
    folder.mkdir(exist_ok=True)
    write(scenes, folder / "inputs.nc", "inputs")
    about = {"inputs_digest": inputs_digest(scenes), "model": model}
    if made_by is not None:
        about["weights_digest"] = made_by.weights_digest
    for name, (stage, store) in stores.items():
        write(annotate(store, stage, **about), folder / f"{name}.nc", stage)
    return str(folder)
