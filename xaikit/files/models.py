"""Which models there are by name, known without importing what loads them, which takes seconds."""

import difflib
import importlib.util
import json
import re
import sys
from pathlib import Path

from .paths import data_folder


def bundled(file: str) -> tuple[str, ...]:
    """The names of the bundled models whose folders hold such a file.

    Examples
    --------
    >>> "tiny-clip" in xk.files.bundled("open_clip_config.json")
    True
    """
    try:
        return tuple(sorted(found.parent.name for found in data_folder().glob(f"*/{file}")))
    except FileNotFoundError:  # installed without the checkout, so without its models
        return ()


CLIPS, MLLMS = bundled("open_clip_config.json"), bundled("processor_config.json")
OF_THE_HUB = (
    "llava-hf/llava-1.5-7b-hf",
    "Qwen/Qwen3-VL-2B-Instruct",
    "google/gemma-3-4b-it",
    "OpenGVLab/InternVL3-1B-hf",
)  # such as these


def vocabulary_of(folder: Path) -> frozenset[str]:
    """The words of a model's folder, by its ``tokenizer.json``; none where it has another vocabulary than of words.

    Examples
    --------
    >>> "ring" in vocabulary_of(xk.files.data_folder() / "tiny-clip")
    True
    """
    file = folder / "tokenizer.json"
    known = json.loads(file.read_text(encoding="utf-8"))["model"].get("vocab", ()) if file.is_file() else ()
    return frozenset(word for word in known if isinstance(word, str))


def clip_architectures() -> tuple[str, ...]:
    """The names of open_clip's architectures; once it is imported also of those that were registered with it.

    Examples
    --------
    >>> "ViT-B-32" in clip_architectures()
    True
    """
    if "open_clip" in sys.modules:
        return tuple(sys.modules["open_clip"].list_models())
    (folder,) = importlib.util.find_spec("open_clip").submodule_search_locations
    return tuple(sorted(path.stem for path in Path(folder, "model_configs").glob("*.json")))


def check_clip_name(name: str) -> None:
    """Raise ValueError, with the nearest names, for one that is neither bundled nor an architecture, of a folder or of the hub."""
    known = (*clip_architectures(), *CLIPS)
    if name not in known and not name.startswith(("local-dir:", "hf-hub:")):
        raise ValueError(
            f"unknown model {name!r}: the nearest known names are {_nearest(name, known) or ', '.join(CLIPS)}"
        )


def mllm_folder(name: str) -> Path | None:
    """Where a multimodal model is on this machine, None for one of the hub, whose name has the form owner/name. Raises
    ValueError for a name of neither, FileNotFoundError for a folder that isn't there."""
    if name in MLLMS:
        return data_folder() / name
    if Path(name).is_dir():
        return Path(name)
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        return None
    if name in CLIPS:
        raise ValueError(f"{name} is a CLIP: load it with load_clip")
    if "/" in name or "\\" in name:
        raise FileNotFoundError(f"there is no folder {name}; a hub name has the form owner/name")
    known = (*MLLMS, *OF_THE_HUB)
    near = _nearest(name, known) or ", ".join(known)
    raise ValueError(f"unknown model {name!r}: the nearest known names are {near}; a folder works too")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    by_lower = {each.lower(): each for each in known}
    return ", ".join(by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.3))
