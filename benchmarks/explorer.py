"""How long a reader waits in the explorer: from a control's change to the new picture's bytes, in the kernel.

    python benchmarks/explorer.py [--rounds 20] [--run runs/default]

Each round changes every control once, in turn; the new bytes are in the widget when the change returns. The ratio is the median
to what is allowed: 150 ms where all maps are there, 1 s for the first map of a new prompt, with the model loaded.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import xaikit as xk
from xaikit.explorer import Explorer
from xaikit.scenes import COLOURS, SHAPES, SIZES

KNOWN, NEW = 0.15, 1.0  # seconds allowed


def main() -> None:
    """Print the times and the ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--run", help="a run folder, for the view Runs, which is left out without one")
    choice = options.parse_args()
    start = time.perf_counter()
    app = xk.explore(run=choice.run)
    print(f"import and first view: {time.perf_counter() - start:.1f} s")
    print(f"{'':44} {'median':>9} {'largest':>9}   median / allowed")
    for name, allowed, change, picture in tasks(app, choice.run):
        seconds = [timed(change, picture) for _ in range(choice.rounds)]
        middle = statistics.median(seconds)
        print(f"{name:44} {1000 * middle:6.0f} ms {1000 * max(seconds):6.0f} ms   {middle / allowed:.2f}")


def tasks(app: Explorer, run: str | None):
    """What is timed: a name, the seconds allowed, what changes a control, and where the new bytes then are."""
    shares = itertools.cycle([0.1, 0.3, 0.5, 0.7, 0.9])
    prompts = (f"a {size} {colour} {shape}" for size in SIZES for colour in COLOURS for shape in SHAPES)

    app.set(tab="compare", methods=["grad_eclip", "mmel", "chefer", "clip_surgery"])
    page = opened(app)
    maps = lambda page=page: b"".join(picture.png for picture in page.maps)  # noqa: E731
    for choice in ("threshold", "opacity"):
        yield f"Compare, four methods: {choice}", KNOWN, slider(page, choice, shares), maps
    upsampling = itertools.cycle(["bicubic", "nearest"])
    yield "Compare, four methods: upsampling", KNOWN, slider(page, "upsampling", upsampling), maps
    app.set(methods=["grad_eclip"])
    yield "Compare: first map of a new prompt", NEW, lambda: typed(app, next(prompts)), lambda: page.maps[0].png

    app.set(tab="words", prompt="a large red ring left of a blue square")
    words = opened(app)
    pressed = itertools.cycle([1, 2, 1, 2])
    for places in ((1,), (1, 2), (2,)):
        app.set(words=places)
    app.set(words=[])
    yield (
        "Words: a word, its map known",
        KNOWN,
        lambda: press(app, words.words, next(pressed)),
        lambda: words.pressed.png,
    )

    app.set(tab="resonance")
    waves = opened(app)
    times = itertools.cycle(range(5))  # later on the maps have settled
    yield "Resonance: time", KNOWN, slider(waves, "time", times), lambda: seen(app, "map")
    modes = itertools.cycle([1, 0])
    yield "Resonance: mode", KNOWN, lambda: app.change(mode=next(modes)), lambda: seen(app, "mode size")

    app.set(tab="answer", token=0)
    tokens = itertools.cycle([1, 2, 3])
    yield "Answer: a word", KNOWN, lambda: app.change(token=next(tokens)), lambda: seen(app, "map")
    switch = itertools.cycle([False, True])
    yield "Answer: ARC off and on", KNOWN, slider(opened(app), "arc", switch), lambda: seen(app, "map")

    app.set(tab="perturb")
    yield "Perturb: share", KNOWN, slider(opened(app), "share", shares), lambda: seen(app, "picture")
    app.set(share=0)
    patches = itertools.count()
    yield (
        "Perturb: a patch masked by hand",
        KNOWN,
        lambda: mask(app, next(patches)),
        lambda: seen(app, "picture"),
    )

    if run:
        app.set(tab="runs")
        columns = itertools.cycle(app.drawn.table.columns[:2])
        yield "Runs: sort", KNOWN, lambda: app.change(sort=next(columns)), lambda: str(app.drawn.table.rows).encode()


def opened(app: Explorer):
    """The tab that is open."""
    return app.pages[app.state.tab].children[0]


def slider(page, choice: str, values) -> Callable[[], None]:
    """Sets a tab's control to the next of these values."""

    def change() -> None:
        page.controls[choice].value = next(values)

    return change


def seen(app: Explorer, place: str) -> bytes:
    """A panel of the open view with its title, since some words have blank maps."""
    panel = app.drawn.panels[place]
    return panel.title.encode() + panel.png


def typed(app: Explorer, prompt: str) -> None:
    """Type a prompt and wait for what it starts."""
    app.prompt.value = prompt
    app.wait()


def press(app: Explorer, words, place: int) -> None:
    """Press a word as a browser does."""
    words.press(place)
    app.wait()


def mask(app: Explorer, patch: int) -> None:
    """Mask one more patch, whose score takes a pass."""
    app.change(masked=tuple(range(patch % 30 + 1)))
    app.wait()


def timed(change: Callable[[], None], picture: Callable[[], bytes]) -> float:
    """Seconds until a change has new bytes. Raises RuntimeError where the picture stayed the same."""
    before, start = picture(), time.perf_counter()
    change()
    after, seconds = picture(), time.perf_counter() - start
    if after == before:
        raise RuntimeError("the control changed and the picture didn't")
    return seconds


if __name__ == "__main__":
    main()
