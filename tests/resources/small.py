"""A small configuration, its data set, and rates that can be computed with by hand."""

from pipeline.config.resolve import resolve
from pipeline.resources.dataset import Dataset
from pipeline.resources.jobs import Job
from pipeline.resources.network import Network
from pipeline.resources.operations import count
from pipeline.resources.rules import work_of

DATASET = Dataset({"train": 100, "val": 20}, size=(300, 400), labels=1.5)
RATES = {
    "machines": [
        {"name": "A", "training": {"resnet18": 1e9, "other": 2e9}, "inference": {"other": 4e9}}
    ],
    "core_seconds": {
        "cosines": 1e-8,
        "crf": 1e-6,
        "graph_cut": 1e-5,
        "superpixels": 1e-5,
        "walk": 1e-4,
        "image": 0.1,
    },
}
#: Wildcards of a shard of class maps.
MAPS = {"classifier": "plain", "attribution": "cam", "split": "train", "shard": "0"}


def config(**changes):
    """Resolve a configuration of two classifiers, with changes of its sections."""
    network = {"backbone": "resnet18", "epochs": 3, "augmentation": {"crop": 64}, "eval_size": 32}
    return resolve({
        "experiment": "x",
        "shards": 4,
        "dataset": {"kind": "demo", "train": 100, "val": 20},
        "classifiers": {"plain": network, "puzzle": network | {"puzzle": {}}},
        "attributions": {"cam": {"scales": [1.0, 2.0], "max_size": 200}},
        "refinements": {
            "crf": {"crf": {"iterations": 7}}, "graph-cut": {"graph_cut": {}},
        },
        "pseudo_labels": ["plain/cam/crf"],
        **changes,
    })  # fmt: skip


def work(rule, wildcards, planned=None, dataset=DATASET):
    """Return the work of a job, with counted operations."""
    return work_of(rule, Job(wildcards, planned or config(), dataset, operations=count))


def per_pixel(backbone="resnet18", **shape):
    """Count the operations of a forward pass for each pixel."""
    return count(Network(backbone, **shape)).forward
