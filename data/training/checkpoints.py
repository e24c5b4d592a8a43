"""Training by steps that was interrupted goes on as if it hadn't been."""

import json
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from xaikit.files.paths import replacing

from .batches import descend


class Interruptible:
    """Models in training, step by step and stage by stage, each step from random numbers of its own.

    What inherits from this has the recipes of its ``stages``, its ``parts`` and what their weights depend on (``made``). Its
    ``begin`` makes the optimiser of a stage, its ``loss()`` gives the loss of one step, and numbers to report by name.
    """

    stages: tuple
    parts: dict[str, nn.Module]
    made: object
    progress: bool
    optimizer: Optimizer
    schedule: LRScheduler

    def __init__(self):
        self.log: list[dict] = []
        self.running: list[dict] = []
        self.begin(0)

    @property
    def recipe(self):
        """That of the stage."""
        return self.stages[self.stage]

    def begin(self, stage: int, step: int = 0) -> None:
        """Start a stage, with a fresh optimiser, at the first step or a later one."""
        self.stage, self.step, self.running = stage, step, []

    def report(self, means: dict[str, float]) -> dict[str, float]:
        """A row of the log, from the means of the numbers since the last one."""
        return {"step": self.step, **means}

    def one_step(self) -> None:
        loss, numbers = self.loss()
        parameters = [each for part in self.parts.values() for each in part.parameters()]
        descend(loss, parameters, self.optimizer, self.schedule)
        self.step += 1
        self.running.append(numbers)
        if self.step % self.recipe.report_every == 0 or self.step == self.recipe.steps:
            self.log.append(self.report(pd.DataFrame(self.running).mean().to_dict()))
            self.running = []
            if self.progress:
                tqdm.write(" ".join(f"{name}={value:.4g}" for name, value in self.log[-1].items()))

    def train(self, folder: Path | None, every: int) -> pd.DataFrame:
        """Train to the end, every so many steps writing what is needed to go on into a folder, if any, and going on from what
        lies there; the log. Raises ValueError where another training, or another recipe, wrote it."""
        if folder and (folder / "checkpoint.json").is_file():
            self.resume(folder)
        done = sum(stage.steps for stage in self.stages[: self.stage]) + self.step
        total = sum(stage.steps for stage in self.stages)
        with tqdm(total=total, initial=done, disable=not self.progress) as bar:
            while self.step < self.recipe.steps or self.stage + 1 < len(self.stages):
                if self.step == self.recipe.steps:
                    self.begin(self.stage + 1)
                self.one_step()
                bar.update()
                if folder and self.step % every == 0:
                    self.keep(folder)
        return pd.DataFrame(self.log)

    def keep(self, folder: Path) -> None:
        """Write the weights of all parts, the optimiser's state and the place, each file at once; what was written before is
        gone."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {f"{part}.{name}": v for part, module in self.parts.items() for name, v in module.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        weights = folder / f"checkpoint-{self.stage}-{self.step}.safetensors"
        with replacing(weights) as path:
            save_file({name: value.contiguous().clone() for name, value in state.items()}, path)
        place = {"stage": self.stage, "step": self.step, "log": self.log, "running": self.running, "made": self.made}
        with replacing(folder / "checkpoint.json") as path:
            Path(path).write_text(json.dumps(place))
        for other in folder.glob("checkpoint-*.safetensors"):
            if other != weights:
                other.unlink()

    def resume(self, folder: Path) -> None:
        """Go on from what ``keep`` wrote."""
        place = json.loads((folder / "checkpoint.json").read_text())
        if place["made"] != json.loads(json.dumps(self.made)):
            raise ValueError(
                f"the checkpoint in {folder} is of another model or recipe: delete it, or choose another folder"
            )
        stage, step = place["stage"], place["step"]
        self.begin(stage, step)
        self.log, self.running = place["log"], place["running"]
        state = load_file(folder / f"checkpoint-{stage}-{step}.safetensors")
        for part, module in self.parts.items():
            prefix = f"{part}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        moments: dict[int, dict[str, Tensor]] = {}
        for key in (key for key in state if key.startswith("optimizer.")):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = state[key]
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.schedule.load_state_dict({**self.schedule.state_dict(), "last_epoch": step - 1, "_step_count": step + 1})
        self.schedule.step()
