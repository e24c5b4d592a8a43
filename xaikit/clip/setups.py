"""What belongs to weights beside themselves: their set-up, that is how pictures are prepared for them and the activation they were
trained with, and what the hub holds of a CLIP (weights, configuration, tokenizer), had before it is loaded.

A tag of open_clip brings its set-up. Of a file it is what an ``open_clip_config.json`` beside it says, or what all published
weights of the architecture agree on; what is known from neither has to be said. Pickles are refused.
"""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from numbers import Integral, Real
from pathlib import Path, PurePath

import open_clip

from ..files.checks import check_flags, check_options
from ..files.hub import fetch, hub_off

CONFIG = "open_clip_config.json"
CHOICES = {"interpolation": ("bicubic", "bilinear"), "resize_mode": ("shortest", "longest", "squash")}
COLOURS = ("mean", "std")
SETUP = (*COLOURS, *CHOICES, "quick_gelu")
LARGEST = 4096  # pixels a side: beyond, position embeddings alone would fill the memory


def setup_of(
    name: str, pretrained: str | None, given: Mapping[str, object] | None = None
) -> tuple[dict[str, object], str]:
    """Mean, std, interpolation and resize_mode for weights of this architecture (a tag, a file, or None for random ones), and
    what is assumed of them, "" for nothing.

    given : of a file, what isn't known otherwise, or is known better; also ``quick_gelu``, whether it was trained with QuickGELU.

    Raises ValueError where published weights of the architecture differ, so that a file's set-up is unknown, and for weights
    that were trained with another activation than the architecture has. Where nothing is published, open_clip's defaults, and
    where its activation isn't known, that of the architecture, are assumed.
    """
    given = _checked(given or {})
    tags = {tag: _of_tag(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)}
    if pretrained in tags and given:
        raise ValueError(f"setup={given!r}: the tag {pretrained} brings its own; leave setup at None")
    own = tags[pretrained] if pretrained in tags else given
    if pretrained is not None and pretrained not in tags:
        beside = Path(pretrained).parent / CONFIG
        own = (read_setup(beside) if beside.is_file() else {}) | given
    differ = {key: list(dict.fromkeys(each[key] for each in tags.values())) for key in SETUP if key not in own}
    own |= {key: values[0] for key, values in differ.items() if len(values) == 1}
    assumed = "" if pretrained is None else _assumed(name, pretrained, own)
    return {key: value for key, value in own.items() if key != "quick_gelu"}, assumed


def _assumed(name: str, pretrained: str, own: Mapping[str, object]) -> str:
    """What is assumed of weights, as a sentence. Raises ValueError where nothing can be, or what is known doesn't fit."""
    unknown = [key for key in SETUP if key not in own]
    published = bool(open_clip.list_pretrained_tags_by_model(name))
    quick = bool((open_clip.get_model_config(name) or {}).get("quick_gelu", False))
    way_out = (
        f"give load_clip setup={{{', '.join(f'{key!r}: ...' for key in unknown)}}}, or put their {CONFIG} beside them"
    )
    if published and set(unknown) - {"quick_gelu"}:
        raise ValueError(
            f"pretrained={pretrained!r}: the published weights of {name} differ in {' and '.join(unknown)}, so that of"
            f" these isn't known: {way_out}"
        )
    trained = own.get("quick_gelu", quick)
    if trained != quick and (trained or Path(pretrained).is_file()):  # not all tags say so of GELU
        known = f"{name}-quickgelu" if trained else name.removesuffix("-quickgelu")
        flag = f'set "quick_gelu": {str(trained).lower()} in its configuration'
        other = f"load {known}" if known in open_clip.list_models() and known != name else flag
        raise ValueError(
            f"pretrained={pretrained!r}: these weights were trained with {('GELU', 'QuickGELU')[trained]}, which {name} lacks:"
            f" {other}"
        )
    if not unknown:
        return ""
    assumed = "open_clip's defaults" if not published else "QuickGELU" if quick else "GELU"
    return (
        f"pretrained={pretrained!r}: {assumed} assumed, as {', '.join(unknown)} of {name} is known nowhere; {way_out}"
    )


def _of_tag(name: str, tag: str) -> dict[str, object]:
    found = open_clip.get_pretrained_cfg(name, tag)
    return {key: _plain(found.get(key, False if key == "quick_gelu" else None)) for key in SETUP}


def read_setup(path: Path) -> dict[str, object]:
    """The set-up in a model's configuration, of which open_clip fills in only how pictures are resized.

    Raises ValueError for one that can't be read, or lacks the mean and std of ``preprocess_cfg``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        prepared, quick = found["preprocess_cfg"], found["model_cfg"].get("quick_gelu", False)
        usual = {"interpolation": "bicubic", "resize_mode": "shortest"}
        own = usual | {key: prepared[key] for key in (*COLOURS, *CHOICES) if key in (*COLOURS, *prepared)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"can't be read ({error})"
        raise ValueError(f"{path} {what}: model_cfg, and mean and std of preprocess_cfg, are needed") from error
    return _checked(own | {"quick_gelu": quick}, str(path))


def _checked(own: Mapping[str, object], of: str = "setup") -> dict[str, object]:
    """The set-up with plain values. Raises ValueError for another entry, or an impossible value."""
    check_options(of, own, SETUP)
    own = {key: _plain(value) for key, value in own.items()}
    for key, value in own.items():
        colours = isinstance(value, tuple) and len(value) == 3 and all(isinstance(each, Real) for each in value)
        if key in COLOURS and not (colours and (key == "mean" or min(value) > 0)):
            raise ValueError(f"{of}: {key}={value!r}: three numbers, of red, green and blue, are needed")
        if key in CHOICES and value not in CHOICES[key]:
            raise ValueError(f"{of}: {key}={value!r}: choose from {', '.join(CHOICES[key])}")
    if "quick_gelu" in own:
        check_flags(quick_gelu=own["quick_gelu"])
    return own


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def checked_size(image_size: object) -> int | tuple[int, int] | None:
    """The size as whole numbers. Raises ValueError for anything but pixels a side, or (height, width)."""
    both = isinstance(image_size, tuple | list)
    sides = image_size if both else [] if image_size is None else [image_size]
    whole = all(isinstance(side, Integral) and not isinstance(side, bool) and 1 <= side <= LARGEST for side in sides)
    if not whole or (both and len(sides) != 2):
        raise ValueError(
            f"image_size={image_size!r}: pixels a side, a whole number from 1 to {LARGEST}, or (height, width) are needed"
        )
    sizes = [*dict.fromkeys(map(int, sides))]
    return tuple(sizes) if len(sizes) == 2 else next(iter(sizes), None)  # ResNets take one number alone


WEIGHTS = "open_clip_model.safetensors"
VOCABULARY = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json", "vocab.txt")
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "config.json")


def fetch_clip(name: str, pretrained: str | None, tokenizer: bool = False) -> None:
    """Have all that the hub holds of a model: configurations, weights, and with them, or if ``tokenizer`` says so, its tokenizer,
    which else is fetched when it is first used.

    name, pretrained : as ``load_clip`` takes them, of a model that is known. Raises HubError for what the hub doesn't give, and
    ValueError for a tag of which there are only pickles.
    """
    if _fetch_weights(name, pretrained) or tokenizer:
        fetch_tokenizer(name)  # now, for what isn't there is told before any work
    # Of a text tower that transformers builds; of a model in a folder only what the cache holds.
    if repository := text_config(name).get("hf_model_name"):
        with hub_off() if name.startswith("local-dir:") else nullcontext():
            fetch(f"the text tower of {name}", repository, ["config.json"])


def _fetch_weights(name: str, pretrained: str | None) -> bool:
    """Have the configuration and weights of a model that the hub holds, and say whether it does."""
    if name.startswith("hf-hub:"):
        _config(name)
        fetch(name, name.removeprefix("hf-hub:"), [WEIGHTS])
    elif ":" not in name and (tag := open_clip.get_pretrained_cfg(name, pretrained or "")):
        repository, _, file = tag.get("hf_hub", "").rpartition("/")
        if not repository:
            raise ValueError(
                f"pretrained={pretrained!r}: the weights of this tag aren't on the hub, but a pickle elsewhere"
            )
        fetch(f"{name} ({pretrained})", repository, [f"{PurePath(file).stem}.safetensors" if file else WEIGHTS])
    else:
        return False
    return True


def fetch_tokenizer(name: str) -> Path | None:
    """The folder of the tokenizer of an architecture or of a model on the hub, None where it is open_clip's own, or a folder's."""
    repository = None if name.startswith("local-dir:") else text_config(name).get("hf_tokenizer_name")
    return fetch(f"the tokenizer of {name}", repository, VOCABULARY, BESIDE).parent if repository else None


def text_config(name: str) -> dict:
    """What the configuration of a model that is known says of its text tower and tokenizer."""
    return (_config(name) if ":" in name else open_clip.get_model_config(name))["text_cfg"]


def _config(name: str) -> dict:
    kind, _, where = name.partition(":")
    path = fetch(name, where, [CONFIG]) if kind == "hf-hub" else Path(where, CONFIG)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        if isinstance(found["text_cfg"], dict) and isinstance(found["vision_cfg"], dict):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{name} can't be loaded: its {CONFIG} is damaged, or not one of open_clip's")
