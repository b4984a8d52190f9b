"""The parts of a training: the network with its samples and losses, and the settings."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pipeline.training.batches import Batch, Samples

#: Maps the model, one part of the samples of a step, the share of all steps that are done, and the
#: weights of the part (see `counts` of :class:`Task`) to named losses. "loss" is minimized.
Step = Callable[[nn.Module, Batch, float, Tensor], dict[str, Tensor]]
#: Maps the targets of a part to the number of items in each mean of its loss.
Counts = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """Settings, seed and epoch selection of a training.

    Attributes
    ----------
    settings : mapping
        Keys ``epochs``, ``min_steps``, ``batch_size``, ``accumulate``, ``compile``, ``optimizer``,
        ``schedule`` and optionally ``batch_norm``.
    seed : int
        Seed of all random numbers.
    select_by : str or None
        Column of the history whose highest value selects the epoch that is kept. None keeps the
        last epoch.
    """

    settings: Mapping[str, Any]
    seed: int
    select_by: str | None = None


@dataclass(frozen=True)
class Task:
    """A network with the samples and losses that train it.

    Attributes
    ----------
    model : nn.Module
        The network; changed in place.
    head : nn.Module
        The part that starts from random weights. Its learning rate is multiplied by
        ``head_multiplier``.
    samples : Samples
        The training set.
    step : callable
        Function that computes the losses of a batch.
    frozen : sequence of nn.Module
        Parts of the network that keep their weights and statistics.
    validate : callable or None
        Function that returns further columns of the history after an epoch. All processes call
        it with the unwrapped network, in evaluation mode and with the statistics of the first
        process.
    validated : collection of int or None
        Numbers of the epochs, from 0, after which ``validate`` is called. None means all.
    counts : callable or None
        Function that counts the items in each mean of a part's loss: pixels or pairs. The step
        multiplies each mean by its weight, which is the part's share of the count of the whole
        step times the number of parts. The loss of a step is then the same for every division.
        Without this function all weights are 1, which is right for means over images, since all
        parts have the same number of images.
    """

    model: nn.Module
    head: nn.Module
    samples: Samples
    step: Step
    frozen: Sequence[nn.Module] = ()
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    validated: Collection[int] | None = None
    counts: Counts | None = None
