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
from xaikit.explorer.application import Explorer
from xaikit.samples import COLOURS, SHAPES, SIZES

KNOWN, NEW = 0.15, 1.0  # seconds allowed
MOST_ROUNDS = 60  # there are more prompts and patches
LONG = "a large red ring left of a small blue square and a green diamond"
GOLDEN = 0.618  # whose multiples fill an interval evenly


def main() -> None:
    """Print the times and the ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--run", help="a run folder, for the view Runs, which is left out without one")
    choice = options.parse_args()
    if not 1 <= choice.rounds <= MOST_ROUNDS:
        options.error(f"--rounds {choice.rounds}: 1 to {MOST_ROUNDS} are possible")
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
    prompts = (f"a {size} {colour} {shape}" for size in SIZES for colour in COLOURS for shape in SHAPES)

    app.set(tab="compare", methods=["grad_eclip", "mmel", "chefer", "clip_surgery"])
    page, maps = opened(app), [f"map {place}" for place in range(4)]
    for choice in ("threshold", "opacity"):
        yield f"Compare, four methods: {choice}", KNOWN, slider(page, choice, fresh()), shown(page, *maps)
    upsampling = itertools.cycle(["bicubic", "nearest"])
    yield "Compare, four methods: upsampling", KNOWN, slider(page, "upsampling", upsampling), shown(page, *maps)
    app.set(methods=["grad_eclip"])
    yield "Compare: first map of a new prompt", NEW, lambda: typed(app, next(prompts)), shown(page, "map 0")

    app.set(tab="words", prompt="a large red ring left of a blue square")
    words = opened(app)
    pressed = itertools.cycle([1, 2, 1, 2])
    for places in ((1,), (1, 2), (2,)):
        app.set(words=places)
    app.set(words=[])
    yield "Words: a word, its map known", KNOWN, lambda: press(app, words.words, next(pressed)), shown(words, "pressed")

    app.set(tab="resonance")
    waves = opened(app)
    times = itertools.cycle(range(5))  # later on the maps have settled
    yield "Resonance: time", KNOWN, slider(waves, "time", times), shown(waves, "map")
    yield "Resonance: opacity", KNOWN, slider(waves, "opacity", fresh()), shown(waves, "map", "filmstrip")
    modes = itertools.cycle([1, 0])
    yield "Resonance: mode", KNOWN, lambda: app.change(mode=next(modes)), shown(waves, "mode size")
    yield "Resonance: a word for the first time", KNOWN, *unseen_words(app, waves)

    app.set(tab="answer", token=0)
    answer = opened(app)
    tokens = itertools.cycle([*range(1, len(answer.words.words)), 0])
    yield "Answer: a word", KNOWN, lambda: press(app, answer.words, next(tokens)), shown(answer, "map", "context")
    switch = itertools.cycle([False, True])
    yield "Answer: ARC off and on", KNOWN, slider(answer, "arc", switch), shown(answer, "map", "context")

    app.set(tab="perturb")
    perturb = opened(app)
    yield "Perturb: share", KNOWN, slider(perturb, "share", fresh()), shown(perturb, "picture", "curve")
    app.set(share=0)
    patches = itertools.count()
    yield "Perturb: a patch masked by hand", KNOWN, lambda: mask(app, next(patches)), shown(perturb, "picture")

    if run:
        app.set(tab="runs")
        table = opened(app).table
        columns = itertools.cycle(table.table["columns"])
        sort = lambda: table.press_column(next(columns))  # noqa: E731
        yield "Runs: sort", KNOWN, sort, lambda: str(table.table).encode()


def fresh():
    """Values of a slider from 0.05 to 0.75, each far from the one before and none twice, so that every picture is a new one."""
    return (0.05 + 0.7 * (GOLDEN * step % 1) for step in itertools.count())


def unseen_words(app: Explorer, page) -> tuple[Callable[[], None], Callable[[], bytes]]:
    """What presses a word for the first time, and where the new bytes then are; looking there, which isn't timed, computes
    another recursion once all words were shown."""
    left, alphas = [], (0.3 + step / 100 for step in itertools.count())

    def picture() -> bytes:
        if not left:
            app.set(prompt=LONG, alpha=next(alphas), word=0)
            left.extend(range(1, len(LONG.split())))
        return shown(page, "map", "filmstrip", "plane")()

    return lambda: press(app, page.words, left.pop()), picture


def opened(app: Explorer):
    """The tab that is open."""
    return app.pages[app.state.tab].children[0]


def slider(page, choice: str, values) -> Callable[[], None]:
    """Sets a tab's control to the next of these values."""

    def change() -> None:
        page.controls[choice].value = next(values)

    return change


def shown(page, *panels: str) -> Callable[[], bytes]:
    """What these panels of a tab show, with their titles, since some words have blank maps."""
    return lambda: b"".join(page[panel].title.encode() + page[panel].png for panel in panels)


def typed(app: Explorer, prompt: str) -> None:
    """Type a prompt and wait for what it starts."""
    app.prompt.value = prompt
    app.wait()


def press(app: Explorer, words, place: int) -> None:
    """Press a word as a browser does."""
    words.press(place)
    app.wait()


def mask(app: Explorer, patch: int) -> None:
    """Mask patches that weren't masked together before, whose score takes a pass."""
    app.change(masked=tuple(range(patch + 1)))
    app.wait()


def timed(change: Callable[[], None], picture: Callable[[], bytes]) -> float:
    """Seconds until a change has new bytes. Raises RuntimeError where the picture stayed the same."""
    before, start = picture(), time.perf_counter()
    change()
    seconds = time.perf_counter() - start
    if picture() == before:
        raise RuntimeError("the control changed and the picture didn't")
    return seconds


if __name__ == "__main__":
    main()
