"""How long a notebook says that it takes, in pictures and texts to encode, is what it encodes."""

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from notebook_functions import NOTEBOOKS
from small_models import saved_clip
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import xaikit as xk
from xaikit import evaluation

# As deep as ViT-B-32, with as many patches and words, and narrow, its widths those of no bundled model
WIDTHS = {"image": 88, "text": 56}
CONFIG = {
    "embed_dim": 40,
    "vision_cfg": {"image_size": 63, "patch_size": 9, "layers": 12, "width": WIDTHS["image"], "head_width": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": WIDTHS["text"], "heads": 7, "layers": 12},
}


class Arithmetic(TorchDispatchMode):
    """Counts what the products of each of the model's towers take, forwards and backwards, by the widths of their factors."""

    def __init__(self):
        super().__init__()
        self.taken = dict.fromkeys(WIDTHS, 0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        price = flop_registry.get(function._overloadpacket)
        if price is not None:
            sizes = {
                size for each in args if isinstance(each, torch.Tensor) for size in each.shape[:2] + each.shape[-2:]
            }
            side = next((side for side, width in WIDTHS.items() if sizes & {width, 3 * width, 4 * width}), None)
            if side:
                self.taken[side] += price(*args, **(kwargs or {}), out_val=out)
        return out


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with the narrow model of random weights."""
    torch.manual_seed(0)
    return saved_clip(tmp_path_factory.mktemp("model"), "counted", CONFIG)


@pytest.fixture(scope="module")
def slow_attention():
    """Its fast path is one operation, whose products aren't seen."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def encoded(name, given, monkeypatch):
    """What a notebook says that it encodes, and what it does, (images, texts) each."""
    (path,) = NOTEBOOKS.glob(f"{name}_*.ipynb")
    said, namespace, counter = [], {}, Arithmetic()
    monkeypatch.setattr(evaluation, "say_estimate", lambda clip, *counts: said.append(counts[:2]))
    monkeypatch.chdir(path.parent)
    with counter:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, cell.id, "exec"), namespace)
                plt.close("all")
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= {key: value for key, value in given.items() if key in namespace}
    clip, each = xk.load_clip(given["model"]), Arithmetic()
    with each, torch.no_grad():
        clip.encode_image(torch.zeros(1, 3, 63, 63))
        clip.encode_text(clip.tokens(["a dog"]))
    return said, [counter.taken[side] / each.taken[side] for side in WIDTHS]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of a random model much is empty
@pytest.mark.parametrize("name", ["00", "01", "02", "03", "04", "04b", "06", "06b", "08"])
def test_what_a_notebook_says_that_it_encodes_it_does(name, model, slow_attention, tmp_path, monkeypatch):
    monkeypatch.setenv("XAIKIT_RUNS", str(tmp_path))
    monkeypatch.setenv("XAIKIT_UNATTENDED", "1")
    given = {"model": model, "n": 4}
    for before in {"01": ["00"], "02": ["00"], "03": ["00", "02"]}.get(name, []):
        encoded(before, given, monkeypatch)
    said, done = encoded(name, given, monkeypatch)
    assert len(said) == 1
    assert said[0][0] == pytest.approx(done[0], rel=0.3)
    assert sum(said[0]) == pytest.approx(
        sum(done), rel=0.3
    )  # texts are few, and cheaper than pictures, shorter ones most
