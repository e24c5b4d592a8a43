"""What is needed to go on with a training that was interrupted, as if it hadn't been."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from xaikit.files.paths import replacing


def keep(folder: Path, place: dict, parts: Mapping[str, nn.Module], optimizer: Optimizer) -> None:
    """Write the weights of all parts, the optimiser's state and the place (``stage``, ``step`` and what else there is), each
    file at once; what was written before is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    with replacing(_weights(folder, place)) as path:
        save_file({name: value.contiguous().clone() for name, value in state.items()}, path)
    with replacing(folder / "checkpoint.json") as path:
        Path(path).write_text(json.dumps(place))
    for other in folder.glob("checkpoint-*.safetensors"):
        if other != _weights(folder, place):
            other.unlink()


def place_of(folder: Path | None, made: object) -> dict | None:
    """Where the training whose checkpoint lies in a folder stood; None where there is none. made: what its weights depend on,
    as its place says under the same name. Raises ValueError where another training, or another recipe, wrote it."""
    if folder is None or not (folder / "checkpoint.json").is_file():
        return None
    place = json.loads((folder / "checkpoint.json").read_text())
    if place["made"] != json.loads(json.dumps(made)):
        raise ValueError(
            f"the checkpoint in {folder} is of another model or recipe: delete it, or choose another folder"
        )
    return place


def restore(
    folder: Path, place: dict, parts: Mapping[str, nn.Module], optimizer: Optimizer, schedule: LRScheduler
) -> None:
    """Load what ``keep`` wrote into these, the optimiser and its schedule being new."""
    state = load_file(_weights(folder, place))
    for part, module in parts.items():
        prefix = f"{part}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    moments: dict[int, dict[str, Tensor]] = {}
    for key in (key for key in state if key.startswith("optimizer.")):
        _, index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = state[key]
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    step = place["step"]
    schedule.load_state_dict({**schedule.state_dict(), "last_epoch": step - 1, "_step_count": step + 1})
    schedule.step()


def _weights(folder: Path, place: dict) -> Path:
    return folder / f"checkpoint-{place['stage']}-{place['step']}.safetensors"
