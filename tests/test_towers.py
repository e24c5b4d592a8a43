"""Every kind of tower that open_clip knows, its published configuration shrunk to two narrow blocks: explained by every method
that says it can, while recording changes nothing; taken by every notebook; what can't be recorded is refused in one sentence."""

import copy
import re
from functools import partial

import numpy as np
import open_clip
import pytest
import small_models
import torch
from notebook_functions import functions_of
from open_clip import timm_model
from refusals import refused

import xaikit as xk
from xaikit.explainers.registry import explaining
from xaikit.running.notebooks import find_notebooks
from xaikit.running.workbook import RunFailed, run

VISION = {"layers": 2, "width": 48, "head_width": 16, "attn_pooler_heads": 2}
TEXT = {"width": 32, "heads": 2, "layers": 2, "vocab_size": 49408, "context_length": 16}
NARROW = {"depth": 2, "embed_dim": 48, "num_heads": 3}  # of timm's
WIDE = ("MobileCLIP-B", "MobileCLIP2-B")  # their stem has the published width
# How the names of those without blocks begin, and of large ones whose convolutions can't be made narrow (ViTamin-S and -B stay).
LEFT_OUT = ("RN", "convnext", "swin", "MobileCLIP-S", "MobileCLIP2-S", "ViTamin-L", "ViTamin-XL")
QUICK = {
    "integrated_gradients": {"steps": 2},
    "kernel_shap": {"samples": 80},
    "m2ib": {"steps": 2, "copies": 2},
    "rise": {"masks": 4},
}
ROWS = ("ViT-B-32", "ViT-L-14-336", "ViT-M-16-alt", "ViT-H-14-worldwide", "EVA01-g-14", "EVA02-B-16", "MobileCLIP2-B")
POOLED = ("ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "PE-Core-B-16", "coca_ViT-B-32")
AVERAGED = ("ViT-H-14-CLIPA", "vit_medium_patch16_gap_256")
WITHOUT_BLOCKS = ("RN50",)
KINDS = ("small-custom-blocks", *ROWS, *POOLED, *AVERAGED)
HEARD = {*KINDS} - {"small-custom-blocks", "ViT-H-14-worldwide"}  # the others know no English, or need the hub for it
OTHERS = [
    pytest.param(name, marks=pytest.mark.long)
    for name in open_clip.list_models()
    if name not in KINDS and not name.startswith(LEFT_OUT)
]


@pytest.fixture
def shrunk(monkeypatch):
    """A function from an architecture's name to its narrow model of random weights, an image of 4 x 4 patches and ids."""

    def build(name):
        if name in small_models.CONFIGS:
            clip = small_models.small_clip(name)
            return clip, *(each[:2] for each in small_models.pairs(clip))
        config = copy.deepcopy(open_clip.get_model_config(name))
        vision = config["vision_cfg"]
        timm = vision.get("timm_model_name", "")
        patch = vision.get("patch_size") or int((re.findall(r"patch(\d+)", timm) or [16])[0])
        if name not in WITHOUT_BLOCKS:
            vision["image_size"] = 4 * patch
            if timm:
                narrow = {"depth": 2} if name in WIDE else {} if timm.startswith("vitamin") else NARROW
                create = partial(timm_model.timm.create_model, img_size=4 * patch, **narrow)
                monkeypatch.setattr(timm_model.timm, "create_model", create)
            else:
                vision |= VISION
            config["embed_dim"] = 48
        width = {} if config["text_cfg"].get("proj_type") != "none" else {"width": 48}
        text = {k: v for k, v in config["text_cfg"].items() if not k.startswith(("hf_", "tokenizer_"))}
        config["text_cfg"] = text | TEXT | width
        config |= {"multimodal_cfg": config["multimodal_cfg"] | TEXT} if "multimodal_cfg" in config else {}
        end = config["text_cfg"].get("eos_id", 49407)
        called = f"shrunk-{re.sub('siglip', 'sigl', name, flags=re.IGNORECASE)}"
        clip = xk.load_clip(small_models.registered(called, config))
        draw = torch.Generator().manual_seed(0)
        tokens = torch.zeros(2, 16, dtype=torch.long)
        tokens[:, 1:7] = torch.randint(300, 40000, (2, 6), generator=draw)
        tokens[:, 0], tokens[0, 7], tokens[1, 4], tokens[1, 5:] = 49406, end, end, 0
        return clip, torch.randn(2, 3, *clip.image_size, generator=draw), tokens

    return build


@pytest.mark.parametrize("name", [*KINDS, *OTHERS])
def test_every_kind_is_explained_by_every_method_that_says_so(shrunk, name):
    clip, pixels, tokens = shrunk(name)
    plain = clip.encode_image(pixels), clip.encode_text(tokens)
    able = {side: explaining(clip, side) for side in ("image", "text")}
    unheard = set() if name in HEARD else {"osp"}
    for side, methods in able.items():
        asked = {each: (each, QUICK.get(each, {})) for each in methods if each not in unheard}
        heat = xk.explain(asked, clip, pixels, tokens, of=side)
        assert len(asked) >= 13 and heat.explainer.values.tolist() == [*asked] and np.isfinite(heat).all()
        assert side == "text" or heat.shape[2:] == xk.clip.tower(clip, side).grid
        if name in KINDS:
            single = xk.explain(asked, clip, pixels[1:], tokens[1:], of=side)
            for each in asked:
                ours, alone = heat.sel(explainer=each).values, single.sel(explainer=each).values
                told = np.ptp(ours.reshape(len(ours), -1), 1) > 0
                assert told.all() if side == "image" else told.any(), f"{each} of {side} says nothing"
                within = 1e-4 * np.abs(alone).max() + 1e-7  # the patches of some hardly count
                together = ours[1:, ..., : alone.shape[-1]]
                np.testing.assert_allclose(together, alone, 0, within, err_msg=f"{each} of {side}")
        with xk.record(clip, side, None) as tape:
            own = clip.encode_image(pixels) if side == "image" else clip.encode_text(tokens)
        assert torch.equal(own, plain[side == "text"])
        assert all(torch.allclose(layer.attention.sum(-1), torch.ones(()), atol=1e-5) for layer in tape.layers)
    assert torch.equal(clip.encode_image(pixels), plain[0]) and torch.equal(clip.encode_text(tokens), plain[1])
    if name in KINDS:
        everything = {each for each, about in xk.methods().items() if "image" in about["explains"]}
        lacking = {"chefer", "grad_eclip"} if name in AVERAGED else {"maskclip"} if name in POOLED else set()
        if name in POOLED:
            refused("blocks=2: .* pools by attention", xk.explain, "grad_eclip", clip, pixels, tokens, blocks=2)
        assert lacking <= everything - {*able["image"]} and (lacking or everything == {*able["image"]})


@pytest.mark.parametrize("name", WITHOUT_BLOCKS)
def test_towers_without_blocks_are_refused_in_one_sentence(shrunk, name):
    clip, pixels, tokens = shrunk(name)
    for ask in (xk.explain_all, partial(xk.explain, "grad_eclip"), partial(xk.explain, ["centre", "mmel"])):
        with pytest.raises(ValueError, match=f"the image tower of {clip.name} .* has no transformer blocks") as error:
            ask(clip, pixels, tokens)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-SigLIP", "EVA02-B-16", "coca_ViT-B-32"])
def test_the_notebook_on_hooks_reads_each_kind(shrunk, name):
    clip, pixels, tokens = shrunk(name)
    notebook = functions_of("hooking_clip")
    with xk.record(clip, "image", None) as tape:
        clip.encode_image(pixels)
    layers = 1 if name in POOLED else 2  # where a pooling layer makes the embedding, it alone has the summary's query
    heads = notebook.summary_attention(clip, tape, pixels, tokens, "image")
    assert heads.shape[:2] == (2, layers) and heads.shape[3:] == (4, 4)
    found = notebook.summarise(clip, tape, pixels, tokens, "image")
    assert found.sizes["block"] == layers and np.isfinite(found.attention_entropy).all() and (found.key_norm > 0).all()
    np.testing.assert_allclose(found.attention, heads.mean(2), atol=1e-5)
    of_heads = notebook.head_entropy(clip, tape, pixels, tokens, "image")
    assert of_heads.shape == heads.shape[:3] and (of_heads > 0).all()
    assert (found.attention_entropy.values >= of_heads.mean(2).numpy() - 1e-5).all()  # entropy is concave
    assert (heads.sum((3, 4)) <= 1 + 1e-5).all() and (heads.sum((3, 4)) > 0.5).all()


def test_the_notebook_on_hooks_takes_all_scenes_a_batch_at_a_time(clip):
    notebook, few = functions_of("hooking_clip"), xk.draw_scenes(5, 3, size=clip.image_size[0])
    whole, parts = (torch.cat([*notebook.batches(notebook.summary_attention, clip, few, size)]) for size in (5, 2))
    assert len(parts) == few.sizes["sample"] == 5
    torch.testing.assert_close(parts, whole)


def test_the_notebook_on_grad_eclip_says_that_a_pooled_tower_has_no_more_blocks(clip):
    notebook = functions_of("grad_eclip")
    notebook.more_of.__globals__.update(clip=clip)
    assert notebook.more_of({}).endswith("no more blocks to sum over")


# The workbook from start to end, with random weights: it takes any kind by one parameter, or says why it can't. A native ViT
# goes through all of it in test_estimates_of_notebooks.
FEW = {
    "n": 4, "n_validation": 2, "used": 3, "alphas": [0.5], "temperatures": [0.1], "theta_slopes": [0.0], "draws": 2, "shuffles": 1,
    "perturbations": 8, "path_steps": 2, "masks": 4, "copies": 1, "steps": 2, "world": "shapes",
}  # fmt: skip
EVERYWHERE = ["00", "01", "02", "03", "06", "06b", "08"]
RESONANCE = ["04", "04b"]
WORDS = {"vocab_size": 49408, "context_length": 77}  # of open_clip's own tokenizer
RESNET = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1] * 4, "width": 8},
    "text_cfg": small_models.TEXT,
}


def saved(kind, folder):
    """A folder as open_clip reads it, with a small random model of the kind that knows English words."""
    config = copy.deepcopy(small_models.CONFIGS.get(f"small-{kind}", RESNET))
    if kind == "siglip":  # the smallest of timm
        config["vision_cfg"] |= {"timm_model_name": "test_vit", "image_size": 160}
        config["embed_dim"] = 64
    if kind == "eva02":  # kernels know timm's own alone
        config["vision_cfg"] |= {"timm_model_name": "eva02_tiny_patch14_224", "image_size": 224}
    for part in {"text_cfg", "multimodal_cfg"} & {*config}:
        config[part] |= WORDS | ({"context_length": 76} if kind == "coca" else {})
    return {"model": small_models.saved_clip(folder, f"whole-{kind}", config), **FEW}


def executed(folder, given, only):
    """Run these notebooks with what they know of the parameters."""
    known = {name for notebook in find_notebooks(only).values() for name in notebook.parameters}
    return run(folder, {name: value for name, value in given.items() if name in known}, only)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("siglip", EVERYWHERE),
        ("coca", ["00", "01", "02", "08"]),  # the rest is as of any tower that pools
        ("eva02", ["00", "01", "02", "04"]),  # the smallest has twelve wide blocks
    ],
)
def test_every_notebook_takes_every_kind(tmp_path, kind, chosen):
    given = saved(kind, tmp_path / kind)
    target = executed(tmp_path / "run", given, chosen)
    assert {path.stem.partition("_")[0] for path in target.glob("*.ipynb")} == {*chosen}
    for name in RESONANCE * (kind == "siglip"):  # words and patches are in no one space behind a pooling layer
        with pytest.raises(RunFailed, match="srm can't explain the image tower of .* no pooling layer"):
            executed(tmp_path / "refused", given, [name])


@pytest.mark.long
def test_a_tower_without_blocks_is_refused_where_it_is_to_be_recorded(tmp_path):
    with pytest.raises(
        RunFailed, match=r"01_hooking_clip failed, .*ModifiedResNet\) has no transformer blocks to record"
    ):
        executed(tmp_path / "run", saved("resnet", tmp_path / "resnet"), ["00", "01"])
