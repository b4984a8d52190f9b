"""The run of a training stage: devices, seed, checkpoint, and the files that it writes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torchvision.transforms import v2

from pipeline.runtime.device import loader_workers, make_fabric
from pipeline.training.augmentation import training_transform
from pipeline.training.checkpoint import State, fingerprint_of
from pipeline.training.loop import train, write_history
from pipeline.training.task import Recipe, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """The settings, devices and outputs of a training stage; create it with :meth:`start`.

    Attributes
    ----------
    settings : mapping
        Keys ``precision`` and ``augmentation``, and those of
        :class:`pipeline.training.task.Recipe`.
    seed : int
        Seed of all random numbers.
    code : str
        Digest of the code.
    weights, history : Path
        Outputs: the network (safetensors) and one row per epoch (CSV).
    threads : int
        Number of CPU threads, over all processes.
    fabric : Fabric
        Devices and precision.
    """

    settings: Mapping[str, Any]
    seed: int
    code: str
    weights: Path
    history: Path
    threads: int
    fabric: Fabric

    @classmethod
    def start(
        cls,
        settings: Mapping[str, Any],
        seed: int,
        code: str,
        *,
        weights: Path,
        history: Path,
        threads: int,
        gpu: int,
    ) -> "TrainingRun":
        """Prepare the devices, and seed the random weights of the network.

        Create the network afterwards. ``gpu`` is the number of GPUs; all other parameters are
        the attributes.
        """
        fabric = make_fabric(settings["precision"], threads, gpu)
        torch.manual_seed(seed)
        return cls(settings, seed, code, weights, history, threads, fabric)

    def transform(self, model: Any) -> v2.Transform:
        """Return the random augmentation of the settings, for the inputs of a network."""
        return training_transform(self.settings["augmentation"], model.mean, model.std)

    def train(
        self,
        task: Task,
        *,
        inputs: Sequence[Path],
        save: Callable[[Path, State], None],
        select_by: str | None = None,
    ) -> None:
        """Train, or continue from a checkpoint of the same run, and write the outputs.

        The checkpoint is next to the weights. It is deleted after the outputs are written.

        Parameters
        ----------
        task : Task
            The network, its samples and its losses.
        inputs : sequence of Path
            All files that determine the result. A checkpoint is used only if their contents,
            the settings, the seed and the code are the same.
        save : callable
            Function that writes the state of the network to ``weights``.
        select_by : str or None
            See :class:`pipeline.training.task.Recipe`.

        Raises
        ------
        UserError
            If a loss is not finite, or a step cannot be divided equally.
        """
        logger.info("%d images on %s", len(task.samples), self.fabric.device)
        checkpoint = self.weights.with_name("checkpoint.safetensors")
        state, rows = train(
            task,
            Recipe(self.settings, self.seed, select_by),
            fabric=self.fabric,
            checkpoint=checkpoint,
            fingerprint=fingerprint_of(dict(self.settings), self.seed, self.code, *inputs),
            workers=loader_workers(self.fabric, self.threads),
        )
        if not self.fabric.is_global_zero:
            return
        save(self.weights, state)
        write_history(self.history, rows)
        checkpoint.unlink(missing_ok=True)
