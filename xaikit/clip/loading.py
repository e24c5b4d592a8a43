"""Load any open_clip model by name, or say which names are near."""

import difflib
import tempfile
from pathlib import Path

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..files.checks import check_choices
from ..files.paths import data_folder
from .model import Clip

BUNDLED = ("tiny-clip", "tiny-clip-shortcut")
PRECISIONS = ("fp32", "fp16", "bf16")


def _no_such_model(name: str) -> ValueError:
    known = [*BUNDLED, *open_clip.list_models()]
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=3, cutoff=0.3)
    near = [next(k for k in known if k.lower() == match) for match in near] or list(BUNDLED)
    return ValueError(f"unknown model {name!r}: the nearest known names are {', '.join(near)}")


def load_clip(
    name: str = "tiny-clip",
    pretrained: str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> Clip:
    """Load a CLIP.

    Parameters
    ----------
    name : a bundled model ("tiny-clip", "tiny-clip-shortcut"), any architecture open_clip knows (also one
        registered with ``open_clip.add_model_config``), ``local-dir:PATH`` or ``hf-hub:OWNER/NAME``.
    pretrained : for an architecture name, open_clip's tag of the weights or a path to a safetensors file;
        None leaves random weights (drawn with ``seed``), for trying things out.
    device, precision : where and how to compute; precision is "fp32", "fp16" or "bf16".
    image_size : height and width other than the model's own; position embeddings are interpolated.

    The network is used only for a named open_clip tag or an ``hf-hub:`` name. Raises ValueError with the
    nearest known names for a wrong one, FileNotFoundError for a missing folder or file.

    Examples
    --------
    >>> clip = xk.load_clip("tiny-clip")
    >>> clip.image_size, clip.context_length
    ((64, 64), 20)
    >>> clip.similarity(scenes.image, scenes.caption).shape
    torch.Size([4, 4])
    """
    check_choices(precision=(precision, PRECISIONS))
    target = checked_device(device)
    source = f"local-dir:{data_folder() / name}" if name in BUNDLED else name
    if pretrained is not None and ":" in source:
        raise ValueError(f"pretrained={pretrained!r}: {name} brings its own weights; leave pretrained at None")
    if source.startswith("local-dir:"):
        _check_folder(Path(source.removeprefix("local-dir:")))
    elif not source.startswith("hf-hub:"):
        _check_architecture(name, pretrained)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        weights = None if ":" in source else pretrained
        if image_size is not None and weights is not None and Path(weights).is_file():
            weights = _in_float32(Path(weights), Path(folder))
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                source, pretrained=weights, device=target, precision=precision, force_image_size=image_size
            )
        except (SafetensorError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{name} can't be loaded with pretrained={pretrained!r} on {device}: {reason}") from error
    model.requires_grad_(False).eval()
    return Clip(name, model, preprocess, source, target, open_clip.get_input_dtype(precision) or torch.float32)


def checked_device(device: str) -> torch.device:
    """The device of this name. Raises ValueError for one that torch or this machine doesn't have."""
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r}: torch knows no such device; use 'cpu' or 'cuda'") from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}: this machine has no CUDA device; use 'cpu'")
    try:
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device={device!r}: this machine has no such device; use 'cpu'") from error
    return target


def _in_float32(weights: Path, folder: Path) -> str:
    """A copy in float32: position embeddings in half precision can't be interpolated on the CPU."""
    copy = folder / weights.name
    save_file({name: tensor.float() for name, tensor in load_file(weights).items()}, copy)
    return str(copy)


def _check_folder(folder: Path) -> None:
    needed = ("open_clip_config.json", "open_clip_model.safetensors")
    missing = [file for file in needed if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {' and '.join(missing)}: an open_clip folder holds {' and '.join(needed)}"
        )


def _check_architecture(name: str, pretrained: str | None) -> None:
    if name not in open_clip.list_models():
        raise _no_such_model(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None or pretrained in tags:
        return
    path = Path(pretrained)
    if path.suffix and path.suffix != ".safetensors":
        raise ValueError(
            f"pretrained={pretrained!r}: weights are loaded from .safetensors files only, never from pickles"
        )
    if not path.is_file():
        raise ValueError(
            f"pretrained={pretrained!r} is neither a file nor a tag of {name}; its tags are {', '.join(tags) or 'none'}"
        )
