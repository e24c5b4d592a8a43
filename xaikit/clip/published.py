"""What a CLIP needs from the hub (weights, configuration, tokenizer), had before it is loaded; pickles are refused."""

import json
from contextlib import nullcontext
from pathlib import Path, PurePath

import open_clip

from ..files.hub import fetch, hub_off
from .setups import CONFIG

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
