"""Texts, figures and tables mean what stands in them; a map is finite or its call says why not; classes of one name are one."""

import inspect
import io
import itertools
import json
from typing import Literal, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from matplotlib.text import Text
from PIL import Image
from refusals import refused
from small_models import CONFIGS, small_clip

import xaikit as xk
from xaikit.clip.perturbation import filled
from xaikit.evaluation import protocols
from xaikit.evaluation.confidence import nearest
from xaikit.evaluation.protocols.faithfulness import class_embeddings
from xaikit.explainers import registry
from xaikit.measures.words import content_share
from xaikit.running import rows_of
from xaikit.running.sweep_plan import read_table

SCENES = xk.draw_scenes(2, seed=0)


@pytest.fixture(scope="module")
def byte_clip(tmp_path_factory):
    """A small model with CLIP's own byte-level tokenizer."""
    import open_clip

    path = tmp_path_factory.mktemp("config") / "small-bytes.json"
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    path.write_text(json.dumps(CONFIGS["small-vit"] | {"text_cfg": text}))
    open_clip.add_model_config(path)
    return xk.load_clip("small-bytes")


@pytest.mark.parametrize(
    "prompt", ["a <end_of_text> b", "a <START_OF_TEXT>", "<end_of_text>", "a &lt;end_of_text&gt; b", "a<end_of_text>b"]
)
def test_the_text_of_a_special_token_is_refused(byte_clip, prompt):
    refused("one of the tokenizer's own tokens", byte_clip.tokens, [prompt])
    found = xk.explain("edge", byte_clip, SCENES.image, ["a cat", prompt], errors="record")
    assert found.error.values[0] == "" and "text 1" in str(found.error.values[1])


LETTERS = st.text(st.characters(categories=("Ll", "Nd")), min_size=1, max_size=6)


@given(words=st.lists(LETTERS, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_pieces_make_up_the_words_of_any_script(byte_clip, words):
    """What tokens show is the prompt itself, as the tokenizer cleans it, but for characters cut between tokens."""
    prompt = byte_clip.tokenizer.clean_fn(" ".join(words))
    try:
        [pieces], [places] = byte_clip.token_strings([prompt]), byte_clip.token_words([prompt])
    except ValueError:  # of a prompt that is too long
        return
    shown, wanted = "".join(pieces), prompt.replace(" ", "")
    assert "\ufffd" in shown or shown == wanted
    assert len(pieces) == len(places) and places[0] == 0 and {*np.diff(places)} <= {0, 1}
    if all(word.isalpha() for word in prompt.split()):
        assert places[-1] + 1 == len(prompt.split())


@pytest.mark.parametrize(("prompt", "pieces", "places"), [
    ("a café", ["a", "café"], [0, 1]),
    ("a cyan ring, an owl", ["a", "cy", "an", "ring", ",", "an", "owl"], [0, 1, 1, 2, 3, 4, 5]),
])  # fmt: skip
def test_pieces_of_words(byte_clip, prompt, pieces, places):
    assert byte_clip.token_strings([prompt]) == [pieces] and byte_clip.token_words([prompt]) == [places]


def test_a_piece_of_a_word_is_no_article(byte_clip):
    """The heat of "an" counts as that of "cyan" where it is a piece of it, and as an article's where it is a word."""
    heat = xk.explain("grad_eclip", byte_clip, SCENES.image, ["a cyan owl", "an owl sat"], of="text").rename(
        "word_heat"
    )
    heat = heat.copy(data=np.array([[[0, 1, 1, 0]], [[1, 0, 0, 0]]], float)[:, 0])
    scenes = SCENES.assign(caption=("sample", ["a cyan owl", "an owl sat"]))
    share = xk.evaluate(heat, byte_clip, scenes, metrics=["content_share"]).content_share
    assert share.values.ravel().tolist() == [1, 0]
    assert content_share(np.ones((1, 1, 2)), np.array([["an", "owl"]])).item() == 0.5


@pytest.mark.parametrize("bad", [None, float("nan"), pd.NA, pd.NaT, 3, b"a cat", "", " \t", "\0", ["a"]], ids=repr)
def test_a_missing_caption_costs_its_own_sample(clip, bad):
    for texts in (["a red circle", bad], pd.Series(["a red circle", bad], dtype=object)):
        found = xk.explain("edge", clip, SCENES.image, texts, errors="record")
        assert found.error.values[0] == "" and str(found.error.values[1]).startswith("text 1")
        refused("text 1", xk.explain, "edge", clip, SCENES.image, texts)


def damaged(kind):
    stored = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(stored, kind)
    return Image.open(io.BytesIO(stored.getvalue()[: len(stored.getvalue()) // 2]))


def closed():
    image = Image.new("RGB", (8, 8))
    image.close()
    return image


BROKEN = {kind: lambda kind=kind: damaged(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")}
BROKEN |= {
    "closed": closed,
    "none": lambda: None,
    "number": lambda: 3,
    "no file": lambda: "nowhere.png",
    "sixteen bit": lambda: Image.new("I;16", (8, 8)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_picture_costs_its_own_sample(clip, name):
    try:
        bad = BROKEN[name]()
    except OSError:  # which refuses already when it is opened
        return
    found = xk.explain("edge", clip, [SCENES.image.values[0], bad], "a red circle", errors="record")
    assert found.error.values[0] == "" and "image 1" in str(found.error.values[1])
    with pytest.raises((ValueError, FileNotFoundError), match="image 1"):
        xk.explain("edge", clip, [SCENES.image.values[0], bad], "a red circle")


DOLLARS = ("costs $5 or $10 today", "a $50% off$ sign", r"$\frac{1}{$", "$$")


@given(text=st.one_of(st.sampled_from(DOLLARS), st.text("$a{\\}_^% ", max_size=12).map("a{}".format)))
@settings(max_examples=12, deadline=None)
def test_no_text_of_a_user_is_mathematics_in_a_figure(clip, text):
    scenes = SCENES.assign(caption=("sample", [text, text]))
    heat = xk.explain_all(clip, SCENES.image, "a red circle", {text: "edge", "centre": "centre"}).heat
    words = xk.explain_all(clip, SCENES.image, "a red circle", {text: "random"}, of="text").word_heat
    words["token_text"] = words.token_text.astype(object).where(words.token_text != "red", text).astype(str)
    figures = [
        xk.plots.gallery(scenes, text), xk.plots.compare(scenes, heat, text, samples=(0, 1)),
        xk.plots.overlay(SCENES.image.values[0], heat[0, 0], title=text), xk.plots.words(words, text, samples=(0,)),
    ]  # fmt: skip
    for figure in figures:
        figure.savefig(io.BytesIO(), dpi=20)
        assert not [each for each in figure.findobj(Text) if "$" in each.get_text() and each.get_parse_math()]


def test_numbers_on_axes_stay_mathematics():
    import matplotlib.pyplot as plt

    from xaikit.plots.panels import finished

    figure, axis = plt.subplots()
    axis.set(yscale="log", ylim=(1e-3, 1e3), xlabel="in $")
    finished(figure, "$").savefig(io.BytesIO())
    labels = [label for label in axis.get_yticklabels() if label.get_text()]
    assert labels and all(label.get_parse_math() for label in labels) and not axis.xaxis.label.get_parse_math()


@pytest.mark.parametrize("name", ["{x}", "a{b", "{n}", "}{", "{{n}}", "{0}", "%s", "$n"])
def test_a_path_is_no_template(tmp_path, monkeypatch, name):
    import papermill

    from xaikit.running import execution

    got = []

    def formatted(source, target, parameters, **_):
        known = papermill.parameterize.add_builtin_parameters(parameters)
        got.extend(papermill.parameterize.parameterize_path(path, known) for path in (source, target))

    monkeypatch.setattr(papermill, "execute_notebook", formatted)
    folder = tmp_path / name
    folder.mkdir()
    (folder / "00_x.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    monkeypatch.setattr("xaikit.running.notebooks.read_notebook", lambda path: type("Bare", (), {"defaults": {}}))
    with pytest.raises(FileNotFoundError):  # nothing was written, as papermill wasn't there
        execution.execute(folder / "00_x.ipynb", folder / "out.ipynb", {"n": 2}, tmp_path)
    assert got == [str(folder / "00_x.ipynb"), str(folder / "out.part.ipynb")]


VALUES = ("1e-3", "1.5", ".5", "010", "-3", "0", "12:30", "yes", "no", "on", "1_000", "2020-01-01", "a b", "1e3x")


@pytest.mark.parametrize("value", VALUES)
def test_a_table_reads_a_value_as_the_command_line_does(tmp_path, value):
    (tmp_path / "t.yaml").write_text(f"- {{alpha: {value}}}\n")
    (tmp_path / "t.csv").write_text(f"alpha\n{value}\n")
    yaml = read_table(tmp_path / "t.yaml")[0]["alpha"]
    if value == "010":  # which as a literal of Python is none
        assert yaml == 10
    elif value == "1_000":
        assert yaml in (1000, "1_000")
    else:
        assert yaml == read_table(tmp_path / "t.csv")[0]["alpha"] == rows_of(None, [f"alpha={value}"])[0]["alpha"]


def test_a_name_twice_in_a_row_of_yaml_is_refused(tmp_path):
    (tmp_path / "t.yaml").write_text("- {seed: 1, seed: 2}\n")
    refused("a name stands twice in a row", read_table, tmp_path / "t.yaml")


EXTREMES = {
    "rate": (1e-6, 1.0, 100), "beta": (1e-6, 100), "copies": (1,), "steps": (1, 50), "alpha": (0.0, 1.0), "tau": (1e-3, 100.0),
    "width": (1e-3, 100.0), "block": (0,), "blocks": (1, None), "signed": (True,), "normalise": (True,), "reference": (True,),
    "noise": (False,), "masks": (2,), "samples": (2,), "fill": ("black", "random", "blur"), "temperature": (1e-2, 100.0),
}  # fmt: skip


def annotated(method, option):
    """By its annotation all choices of an option, or both of a flag."""
    annotation = inspect.signature(registry.all_methods()[method].function).parameters[option].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else (True, False) * (annotation is bool)


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def precise(request):
    return xk.load_clip("tiny-clip", precision=request.param)


@pytest.mark.parametrize("method", xk.methods())
def test_a_map_is_finite_or_the_call_says_why_not(precise, method):
    """Every method, with each of its options at an end of its range, at each precision, on plain, black and loud pictures."""
    images = np.stack([SCENES.image.values[0], np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)])
    about = xk.methods()[method]
    cheap = {
        name: least
        for name, least in (("masks", 8), ("samples", 8), ("steps", 2), ("copies", 1))
        if name in about["options"]
    }
    others = [{name: value} for name in about["options"] if name not in EXTREMES for value in annotated(method, name)]
    choices = [{}, *others, *({name: value} for name in about["options"] for value in EXTREMES.get(name, ()))]
    if precise.dtype != torch.float32:
        choices = choices[:1] + choices[-2:]
    for of, choice in itertools.product(about["explains"], choices):
        try:
            heat = xk.explain(method, precise, images, "a red circle", of=of, **(cheap | choice))
        except ValueError as error:
            assert "\n" not in str(error)
            continue
        assert np.isfinite(heat.values).all(), (of, choice)


def test_a_map_that_is_not_finite_names_its_sample(clip, monkeypatch):
    monkeypatch.setattr(registry.METHODS, "_entries", registry.METHODS.all())

    @registry.method(("image",), "endless at the second sample", needs="tokens")
    def endless(clip, pixels, tokens, *, of):
        return torch.tensor([0.0, torch.inf]).view(2, 1, 1).expand(2, 8, 8)

    given = (clip, SCENES.image, SCENES.caption)
    refused("the map of sample 1 by endless isn't finite in float32", xk.explain, "endless", *given)
    refused("the map of sample 1 by mine isn't finite", xk.explain_all, *given, {"mine": "endless"})
    found = xk.explain(["endless", "centre"], *given, errors="record")
    assert found.error.values.astype(bool).tolist() == [False, True] and np.isfinite(found.values).all()
    assert (found.values[1, 1] != 0).any()


@given(columns=st.lists(st.integers(0, 3), min_size=2, max_size=8), noise=st.floats(-4e-7, 4e-7))
@settings(max_examples=30, deadline=None)
def test_the_nearest_of_several_alike_is_the_first(columns, noise):
    cosine = torch.tensor([[0.1 * column for column in columns]], dtype=torch.float64)
    wobbling = cosine + noise * (torch.arange(len(columns)) % 2)
    assert nearest(wobbling).item() == columns.index(max(columns))


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("ensemble", [False, True])
def test_classes_of_one_name_count_the_same(byte_clip, tmp_path, copies, ensemble):
    """Whichever of several classes of one name is the true one, at whatever batch size, accuracy is the same."""
    names = ["cat", "dog", "crane", "bus", "owl", "sea", *["missile"] * copies]
    for k in range(len(names) - copies, len(names)):
        (tmp_path / f"val/n{k:08}").mkdir(parents=True)
        for j, image in enumerate(SCENES.image.values):
            Image.fromarray(image).save(tmp_path / f"val/n{k:08}/c{k}_{j}.png")
    (tmp_path / "classnames.txt").write_text("".join(f"n{k:08} {name}\n" for k, name in enumerate(names)))
    source = xk.open_source(f"imagenet:{tmp_path}")
    found = class_embeddings(byte_clip, source, ensemble, 4)
    assert all(torch.equal(found[-1], found[-k]) for k in range(1, copies + 1)) and len(found) == len(names)
    for size in () if ensemble else (2, 64):
        results = protocols.classification(
            byte_clip, source, ["edge"], tmp_path / f"parts{size}", steps=2, batch_size=size
        )
        whole = results.insertion_curve.sel(label="truth").values[..., -1].reshape(copies, 2, 2)
        assert (whole == whole[:1]).all()


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (128, 32), (32, 160), (40, 72)])
@pytest.mark.parametrize("fill", ["zero", "mean", "black", "blur", "random"])
def test_every_fill_of_any_proportions(clip, size, fill):
    wide = xk.load_clip("tiny-clip", image_size=size)
    pixels = wide.pixels(SCENES.image)
    assert filled(wide, pixels, fill).shape == pixels.shape and filled(wide, pixels, fill).isfinite().all()


TOKENS = torch.tensor([[1, 5, 63] + 9 * [0]])  # of a small model


@pytest.mark.parametrize("name", ["small-siglip", "small-eva02"])
def test_timms_fused_attention_may_be_off(name):
    model = small_clip(name)
    layers = [module for module in model.model.modules() if hasattr(module, "fused_attn")]
    wanted = xk.explain("rollout", model, SCENES.image[:1], TOKENS)
    before = [layer.fused_attn for layer in layers]
    try:
        for layer in layers:
            layer.fused_attn = False
        found = xk.explain("rollout", model, SCENES.image[:1], TOKENS)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert layers and not any(layer.fused_attn for layer in layers)
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.fused_attn = was


def test_attention_in_its_own_words_is_refused_in_a_sentence():
    class Own(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.proj = torch.nn.Linear(width, width)

        def forward(self, x, *_, **__):
            return self.proj(x)

    model = xk.clip.model.copied(small_clip("small-eva02"))
    block = model.model.visual.trunk.blocks[-1]
    block.attn = Own(block.attn.proj.in_features)
    says = "Own doesn't call scaled_dot_product_attention"
    refused(says, xk.explain, "grad_eclip", model, SCENES.image[:1], TOKENS)


def test_the_words_of_a_resnet_clip_can_be_explained():
    model = xk.load_clip("RN50", image_size=64)
    cheap = ("random", "grad_eclip", "raw_attention")
    found = xk.explain_all(model, SCENES.image, "a cat on a mat", cheap, of="text").word_heat
    assert found.shape[1:] == (3, 5) and np.isfinite(found.values).all()
    scenes = SCENES.assign(caption=("sample", ["a cat on a mat"] * 2))
    assert xk.evaluate(found, model, scenes, metrics=["content_share"]).content_share.shape == (2, 3)
    refused("no transformer blocks to record", xk.explain, "random", model, SCENES.image, "a cat")
