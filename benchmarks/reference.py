"""Time a pair beside the official implementations (``reference_timings.csv``), on a model of the same shape.

    python benchmarks/reference.py

The shape is the small one of those timings: images of 64 pixels in patches of 8, 6 blocks for the image and 3 for the
text, width 128, 2 heads, random weights. Theirs are CPU times of one thread at batch 1, without preprocessing; so are
ours, and those of batches of 8. The machines differ, unless yours has their CPU, so each is also given in forward passes of
image and text on its own machine. Captum, RISE and CLIP Surgery had their text embedding ready, ours encode the text;
Chefer's code gives both maps in one call, ours takes two.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import open_clip
import pandas as pd
import torch

import xaikit as xk

SHAPE = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 6, "width": 128, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 512, "width": 128, "heads": 2, "layers": 3},
}
BATCH, SECONDS = 8, 1.0


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference-shape.json"
        path.write_text(json.dumps(SHAPE))
        open_clip.add_model_config(path)
        clip = xk.load_clip("reference-shape")
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn(BATCH, 3, 64, 64, generator=draw)
    tokens = torch.zeros(BATCH, 77, dtype=torch.long)
    tokens[:, 0], tokens[:, 1:9], tokens[:, 9] = 510, torch.randint(1, 510, (BATCH, 8), generator=draw), 511

    def pairs(row, count: int) -> None:
        if not row.method:
            with torch.no_grad():
                clip.encode_image(pixels[:count]), clip.encode_text(tokens[:count])
        for side in row.sides.split():
            xk.explain(row.method, clip, pixels[:count], tokens[:count], of=side, **json.loads(row.options))

    theirs = pd.read_csv(Path(__file__).with_name("reference_timings.csv"), keep_default_na=False)
    ours = [[_milliseconds(lambda: pairs(row, n)) * row.scaled / n for n in (1, BATCH)] for row in theirs.itertuples()]  # noqa: B023
    table = theirs[["reference"]].assign(source=theirs.repository + " " + theirs.commit, theirs=theirs.small_ms)
    table[["ours", f"ours, batch {BATCH}"]] = ours
    table["theirs / ours"] = table.theirs / table.ours
    table["theirs, passes"], table["ours, passes"] = (table[name] / table[name][0] for name in ("theirs", "ours"))
    print("ms a pair on one thread; theirs were taken on another, unnamed machine, so compare the passes")
    print(table.round(1).to_string(index=False))


def _milliseconds(task) -> float:
    """Median CPU time of runs that fill some time, after a first one."""
    times, end = [], time.perf_counter() + SECONDS
    task()
    while not times or (time.perf_counter() < end and len(times) < 30):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
