"""A job as its cost depends on it: configuration, data set, network, and the views of an image."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.resources.dataset import Dataset
from pipeline.resources.network import Network, Operations
from pipeline.resources.networks import operations_of

Config = Mapping[str, Any]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes
    ----------
    wildcards : mapping of str to str
        Wildcards of the job's output.
    config : mapping
        The resolved configuration.
    dataset : Dataset
        The images of the job's manifest.
    threads : int
        Number of CPU threads.
    gpus : int
        Number of GPUs.
    operations : callable
        Function that returns the operations of a network: an upper bound from the table, or
        :func:`pipeline.resources.operations.count`.
    """

    wildcards: Mapping[str, str]
    config: Config
    dataset: Dataset
    threads: int = 1
    gpus: int = 0
    operations: Callable[[Network], Operations] = operations_of

    def settings(self, section: str, wildcard: str | None = None) -> Settings:
        """Return a section of the configuration, or its entry that a wildcard names."""
        found: Settings = self.config[section]
        return found[self.wildcards[wildcard]] if wildcard else found

    @property
    def images(self) -> float:
        """Number of images of the job: a split's, or a shard's. Jobs without a split use train."""
        shards = self.config["shards"] if "shard" in self.wildcards else 1
        return self.dataset.images(self.wildcards.get("split", "train")) / float(shards)


@dataclass(frozen=True)
class Work:
    """Work of one job.

    Attributes
    ----------
    network : str
        Backbone of the network that the job trains or applies; empty without one.
    training, inference : float
        Operations of that network.
    refining : mapping of str to float
        Amounts of other work by kind: ``cosines`` in pairs of cells x channels, ``crf`` in pixels
        x labels x iterations, ``graph_cut`` in pixels x classes, ``superpixels`` in pixels
        x scales, ``walk`` in cells x classes, ``image`` in images that are read, compared or
        written.
    bytes : float
        Size of the outputs.
    """

    network: str = ""
    training: float = 0.0
    inference: float = 0.0
    refining: Mapping[str, float] | None = None
    bytes: float = 0.0


@dataclass(frozen=True)
class Cost:
    """Cost of a job. The costs of all rules are subclasses."""

    job: Job

    def work(self) -> Work:
        """Return the work of the job on images of mean size."""
        return Work()


@dataclass(frozen=True)
class RequestedCost(Cost, ABC):
    """Cost of a job that requests resources in proportion to it."""

    #: Section of the configuration with the settings of the job, and the wildcard that names the
    #: entry if it has several.
    section: ClassVar[tuple[str] | tuple[str, str]]

    @property
    def settings(self) -> Settings:
        """Settings of the job."""
        return self.job.settings(*self.section)

    @abstractmethod
    def memory(self) -> float:
        """Return an upper bound of the resident memory of all processes of the job, in MiB."""

    @property
    def processes(self) -> int:
        """Number of processes that share the work other than that of the network."""
        return 1

    @property
    def applies_network(self) -> bool:
        """Whether the job applies a network. Without one, it needs no GPU."""
        return True
