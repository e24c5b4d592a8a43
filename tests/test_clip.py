"""Loading, and one clear sentence for everything that can be wrong with a name, an image or a text."""

import copy
import json
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from refusals import refused
from small_models import CONFIGS, registered, small_clip
from training.bundled import Architecture

import xaikit as xk
from xaikit.files.paths import data_folder
from xaikit.samples import world_of_model


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-clip-shortcut"])
def test_bundled_models_are_plain_open_clip_folders(name):
    """Loaded with open_clip alone they give what load_clip gives, and they are small."""
    folder = data_folder() / name
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    scene = xk.draw_scenes(1, seed=0)
    ours = xk.load_clip(name)
    image = preprocess(Image.fromarray(scene.image.values[0]))[None]
    model.eval()
    with torch.no_grad():
        spoken = model.encode_text(tokenizer(list(scene.caption.values)), normalize=True)
        expected = model.encode_image(image, normalize=True) @ spoken.T
    torch.testing.assert_close(ours.similarity(scene.image, scene.caption), expected)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5_000_000


def test_a_checkpoint_path_loads_the_same_weights(clip):
    bundled = data_folder() / "tiny-clip"
    name = registered("tiny-from-path", json.loads((bundled / "open_clip_config.json").read_text())["model_cfg"])
    other = xk.load_clip(name, pretrained=str(bundled / "open_clip_model.safetensors"))
    assert other.weights_digest == clip.weights_digest


def test_random_weights_follow_the_seed():
    name = small_clip("small-vit").name
    first, again, other = (xk.load_clip(name, seed=s).weights_digest for s in (1, 1, 2))
    assert first == again != other


def test_a_model_is_told_in_one_line(clip):
    assert repr(clip) == "Clip('tiny-clip', 64 x 64 pixels, float32 on cpu)"


def test_half_precision(clip):
    scene = xk.draw_scenes(4, seed=0)
    half = xk.load_clip("tiny-clip", precision="bf16")
    difference = half.similarity(scene.image, scene.caption) - clip.similarity(scene.image, scene.caption)
    assert half.dtype == torch.bfloat16 and difference.abs().max() < 0.05


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "tiny-clap"}, "unknown model 'tiny-clap': the nearest known names are tiny-clip"),
        ({"name": "hf_hub:owner/name"}, "unknown model 'hf_hub:owner/name': the nearest known names are"),
        ({"name": "ViT-B32"}, "unknown model 'ViT-B32': .*ViT-B-32"),
        ({"name": "ViT-B-32", "pretrained": "opennai"}, "'opennai' is neither a file nor a tag of ViT-B-32; .*openai"),
        ({"name": "ViT-B-32", "pretrained": "weights.pt"}, "never from pickles"),
        ({"name": "tiny-clip", "pretrained": "openai"}, "tiny-clip brings its own weights"),
        ({"precision": "int4"}, "precision='int4': choose from"),
        ({"device": "toaster"}, "device='toaster'"),
    ],
)
def test_wrong_names_are_answered_with_right_ones(choice, message):
    refused(message, xk.load_clip, **choice)


def test_folders_and_weights_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="lacks open_clip_config.json and open_clip_model.safetensors"):
        xk.load_clip(f"local-dir:{tmp_path}")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    for size in (None, 64):
        refused("ViT-S-32 can't be loaded with pretrained=", xk.load_clip, "ViT-S-32", str(broken), image_size=size)


def test_a_seen_image_is_what_its_map_lies_on(clip):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(clip.seen(image), image)
    halves = np.zeros((40, 120, 3), np.uint8)
    halves[:, 60:] = 200
    seen = clip.seen(halves)  # squashed, not cropped
    assert seen.shape == (64, 64, 3) and (seen[:, :28] == 0).all() and (seen[:, 36:] == 200).all()


def test_token_strings(clip):
    assert clip.token_strings("A red ring, and a blue cross") == ["a red ring , and a blue cross".split()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"text 0 \(''\) is empty"),
        ("  ", "is empty"),
        ("<end> a red ring", "holds one of the tokenizer's own tokens"),
        ("a crimson circle", "the word 'crimson' is outside the model's vocabulary; the nearest known words are"),
        ("a red mauve", "nearest known words are [^;]*$"),
        ("a Dog", "the word 'Dog' is outside .*; tiny-clip-things knows it$"),
        ("a red circle " * 10, "has 32 tokens with its start and end, but tiny-clip takes at most 20"),
    ],
)
def test_bad_prompts(clip, text, message):
    refused(message, clip.tokens, text)


def test_a_world_whose_words_a_model_lacks_is_refused_before_any_work(clip):
    scenes = xk.draw_scenes(2, captions="object", world="things", size=64)
    says = f"text 0 .*the word '{scenes.token_text.values[0, 1]}' is outside the model's vocabulary; the nearest known"
    refused(says, clip.tokens, scenes.caption)
    refused(says, xk.explain, "grad_eclip", clip, scenes.image, scenes.caption)


@pytest.mark.parametrize(("name", "world"), [("tiny-clip", "shapes"), ("tiny-clip-things-plain", "things")])
def test_a_models_world_is_that_whose_words_it_reads(name, world):
    folder = f"local-dir:{data_folder() / name}"
    assert xk.load_clip(name).world == world_of_model(name) == world_of_model(folder) == world


def test_a_model_that_reads_any_word_is_shown_things():
    assert xk.load_clip("ViT-S-32").world == world_of_model("ViT-S-32") == "things"


def test_the_bundled_vocabulary_is_the_worlds(clip):
    assert Architecture().tokenizer().get_vocab() == clip.tokenizer.tokenizer.get_vocab()


def test_a_long_prompt_is_refused_with_a_byte_pair_tokenizer_too():
    native = small_clip("small-vit")
    refused("but small-vit takes at most 12", native.tokens, "one two three four five six seven eight nine ten eleven")
    assert native.token_strings("a photo of cats")[0] == ["a", "photo", "of", "cats"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64), np.uint8), r"image 0 has shape \(64, 64\)"),
        (np.zeros((64, 64, 4), np.uint8), "an RGB image is"),
        (np.zeros((0, 5, 3), np.uint8), "an RGB image is"),
        (Image.fromarray(np.zeros((8, 8), np.float32)), "has mode 'F'"),
        (np.full((64, 64, 3), np.nan), "holds NaN"),
        (np.zeros((64, 64, 3)), "has type float64"),
        (torch.full((1, 3, 64, 64), torch.nan), "holds NaN"),
        (torch.zeros(1, 4, 64, 64), "preprocessed images are a float tensor"),
        (torch.zeros(1, 3, 32, 32), r"pixels are \(32, 32\) but tiny-clip takes \(64, 64\)"),
    ],
)
def test_bad_images(clip, image, message):
    refused(message, clip.pixels, image if isinstance(image, torch.Tensor) else [image])


def test_unreadable_files(clip, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    refused("broken.png can't be read as an image", clip.pixels, [tmp_path / "broken.png"])
    with pytest.raises(FileNotFoundError, match="there is no file .*missing.png"):
        clip.pixels([tmp_path / "missing.png"])
    whole = tmp_path / "whole.png"
    Image.fromarray(xk.draw_scenes(1).image.values[0]).save(whole)
    whole.write_bytes(whole.read_bytes()[:-2000])
    refused("whole.png can't be read as an image", clip.pixels, [whole])


def test_words_are_read_as_by_transformers_and_without_it(clip):
    """The tokenizer of a bundled model, beside open_clip's, which needs transformers."""
    captions = map(str, xk.draw_scenes(50).caption.values)
    texts = [*xk.samples.vocabulary("shapes"), *captions, "A  Red\nring", "red zebra", "<pad>", "red " * 40]
    theirs, ours = open_clip.get_tokenizer(clip.source), clip.tokenizer
    torch.testing.assert_close(theirs(texts), ours(texts), rtol=0, atol=0)
    assert theirs.tokenizer.all_special_tokens == ours.tokenizer.all_special_tokens
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import xaikit as xk\n"
        "clip = xk.load_clip('tiny-clip')\n"
        "assert clip.token_strings(['a red ring']) == [['a', 'red', 'ring']]\n"
        "assert not [name for name in sys.modules if name.startswith('transformers.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


@pytest.mark.parametrize(
    ("family", "runs"), [("small-vit", 16), ("small-eva02", 16), ("small-siglip", 40), ("small-coca", 41)]
)
def test_prompts_are_embedded_without_what_a_causal_tower_never_sees(family, runs):
    config = copy.deepcopy(CONFIGS[family])
    for part in {"text_cfg", "multimodal_cfg"} & {*config}:
        config[part]["context_length"] = 40
    clip, lengths = xk.load_clip(registered(f"long-{family}", config)), []
    tokens = torch.zeros(3, 40, dtype=torch.long)
    for row, length in enumerate((2, 9, 4)):
        tokens[row, :length] = torch.arange(1, length + 1)
        tokens[row, length] = 63
    blocks = xk.clip.tower(clip, "text").blocks
    blocks[0].register_forward_pre_hook(lambda block, inputs: lengths.append(inputs[0].shape[1]))
    torch.testing.assert_close(clip.embed_text(tokens), clip.encode_text(tokens), atol=1e-6, rtol=0)
    assert lengths == [runs, 41 if family == "small-coca" else 40]
    tokens[0, 39] = 63 if family != "small-coca" else 0  # an end where the context ends
    tokens[0, 2] = 5
    torch.testing.assert_close(clip.embed_text(tokens), clip.encode_text(tokens), atol=1e-6, rtol=0)
