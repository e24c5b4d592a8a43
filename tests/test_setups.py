"""What belongs to weights beside themselves: from the tag, a file's own configuration, or what the architecture's weights agree on."""

import json
import warnings

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from refusals import refused
from safetensors.torch import save_file
from small_models import small_clip

import xaikit as xk
from xaikit.clip.setups import SETUP, setup_of
from xaikit.files.store import provenance

ARCHITECTURES = [name for name in open_clip.list_models() if open_clip.list_pretrained_tags_by_model(name)]
GREY = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "interpolation": "bilinear", "resize_mode": "squash"}


def published(name, tag):
    found = open_clip.get_pretrained_cfg(name, tag)
    return {key: tuple(v) if isinstance(v := found.get(key), list) else v for key in SETUP if key != "quick_gelu"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_file_is_prepared_as_all_published_weights_of_its_architecture_or_refused(name):
    tags = open_clip.list_pretrained_tags_by_model(name)
    wanted = [published(name, tag) for tag in tags]
    quick = {bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu")) for tag in tags}
    has_it = bool(open_clip.get_model_config(name).get("quick_gelu"))
    if any(each != wanted[0] for each in wanted):
        refused(f"the published weights of {name} differ in", setup_of, name, "weights.safetensors")
    elif quick == {True} and not has_it:
        refused(
            f"trained with QuickGELU, which {name} lacks: load {name}-quickgelu", setup_of, name, "weights.safetensors"
        )
    else:
        found, assumed = setup_of(name, "weights.safetensors")
        assert found == wanted[0] and ("quick_gelu" in assumed) == (len(quick) == 2)
    for tag, own in zip(tags, wanted, strict=True):
        if bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu")) and not has_it:
            refused("trained with QuickGELU", setup_of, name, tag)
        else:
            assert setup_of(name, tag) == (own, "")


@pytest.fixture
def weights(tmp_path):
    """Random weights of a small architecture, of which nothing is published, in a file."""
    made = small_clip("small-vit")
    save_file(
        {name: value.contiguous().clone() for name, value in made.model.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    return tmp_path / "w.safetensors"


def test_pixels_provenance_and_digest_follow_what_is_said_of_a_file(weights):
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 90, 3), np.uint8))
    with pytest.warns(
        UserWarning, match="open_clip's defaults assumed, as mean, std, .* of small-vit is known nowhere"
    ):
        assumed = xk.load_clip("small-vit", pretrained=str(weights))
    said = xk.load_clip("small-vit", pretrained=str(weights), setup=GREY | {"quick_gelu": False})
    beside = {"preprocess_cfg": {"mean": GREY["mean"], "std": GREY["std"]}, "model_cfg": {}}
    (weights.parent / "open_clip_config.json").write_text(json.dumps(beside))
    read = xk.load_clip("small-vit", pretrained=str(weights))
    for clip, own in ((said, GREY), (read, beside["preprocess_cfg"])):
        wanted = image_transform_v2(PreprocessCfg(size=clip.image_size, **own), is_train=False)(wide)
        np.testing.assert_array_equal(clip.pixels([wide])[0], wanted)
        assert clip.setup["mean"] == GREY["mean"] and clip.setup["activations"] == ["GELU"]
    assert len({clip.weights_digest for clip in (assumed, said, read)}) == 3
    scenes = xk.files.annotate(xk.draw_scenes(1), "inputs", said)
    assert provenance(scenes)["setup"]["resize_mode"] == "squash"


@pytest.mark.parametrize(
    ("name", "quick", "message"),
    [
        ("ViT-B-32-quickgelu", False, "trained with GELU, which ViT-B-32-quickgelu lacks: load ViT-B-32$"),
        ("ViT-B-32", True, "trained with QuickGELU, which ViT-B-32 lacks: load ViT-B-32-quickgelu$"),
        ("small-vit", True, "trained with QuickGELU, which small-vit lacks"),
    ],
)
def test_weights_of_another_activation_are_refused(weights, name, quick, message):
    """Whether the user says so, or the configuration beside them."""
    refused(message, xk.load_clip, name, str(weights), setup=GREY | {"quick_gelu": quick})
    beside = {"preprocess_cfg": GREY, "model_cfg": {"quick_gelu": quick}}
    (weights.parent / "open_clip_config.json").write_text(json.dumps(beside))
    refused(message, xk.load_clip, name, str(weights))


@pytest.mark.parametrize(
    ("setup", "says"),
    [
        ({"colour": 1}, "unknown option 'colour' of setup"),
        ({"mean": 0.5}, "mean=0.5: three numbers"),
        ({"std": (0.1, 0.0, 0.1)}, "std=.*three numbers"),
        ({"interpolation": "lanczos"}, "choose from bicubic, bilinear"),
        ({"resize_mode": "crop"}, "choose from shortest, longest, squash"),
        ({"quick_gelu": 1}, "quick_gelu=1: True or False"),
    ],
)
def test_impossible_setups(weights, setup, says):
    refused(says, xk.load_clip, "small-vit", pretrained=str(weights), setup=setup)


def test_only_a_file_takes_a_setup(tmp_path):
    refused("leave setup at None", xk.load_clip, "tiny-clip", setup=GREY)
    refused("leave setup at None", xk.load_clip, "ViT-B-32", setup=GREY)
    refused("the tag laion2b_e16 brings its own", xk.load_clip, "ViT-B-32", pretrained="laion2b_e16", setup=GREY)
    for lacking in ({"model_cfg": {}}, {"model_cfg": {}, "preprocess_cfg": {"mean": [0, 0, 0]}}):
        (tmp_path / "open_clip_config.json").write_text(json.dumps(lacking))
        (tmp_path / "open_clip_model.safetensors").touch()
        refused("mean and std of preprocess_cfg, are needed", xk.load_clip, f"local-dir:{tmp_path}")


SIZES = (
    0,
    -1,
    3.5,
    "224",
    (224,),
    True,
    (0, 64),
    (64, 3.5),
    (64, 64, 3),
    None,
    10**6,
    1,
    (1, 64),
    8,
    (64, 8),
    40,
    [48, 64],
)


@pytest.mark.parametrize("name", ["tiny-clip", "small-siglip"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_size_is_taken_or_refused_in_one_sentence(name, size):
    if name != "tiny-clip":
        small_clip(name)
    sides = (size, size) if type(size) is int else size
    possible = size is None or (
        isinstance(sides, tuple | list) and len(sides) == 2 and all(type(x) is int for x in sides)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of towers without a single patch
        if (
            possible
            and size is not None
            and (min(sides) < 8 or (min(sides) < 14 and name == "small-siglip") or max(sides) > 4096)
        ):
            refused("image_size=", xk.load_clip, name, image_size=size)
        elif not possible:
            refused("image_size=", xk.load_clip, name, image_size=size)
        else:
            clip = xk.load_clip(name, image_size=size)
            assert size is None or clip.image_size == tuple(sides)
            heat = xk.explain(
                "edge",
                clip,
                np.zeros((1, 9, 9, 3), np.uint8),
                clip.tokens("a ring") if name == "tiny-clip" else torch.tensor([[1, 5, 63] + 9 * [0]]),
            )
            assert min(heat.shape) > 0


def test_a_resnet_refuses_pictures_without_a_patch():
    refused("RN50 can't take pictures that small", xk.load_clip, "RN50", image_size=16)


def test_pickles_are_refused_whatever_their_name(tmp_path, monkeypatch):
    """open_clip would unpickle a file whose name says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("epoch_32", "weights.bin"):
        torch.save({"state_dict": {}}, name)
        refused("weights are loaded from .safetensors files only, never from pickles", xk.load_clip, "ViT-S-32", name)
