"""Work of a job, estimated before it starts: operations of networks, refinements, bytes.

Operations are twice the multiply-adds. :mod:`pipeline.resources.estimate` converts them to hours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.io.images import at_least, fitted_size
from pipeline.models.backbone import create_backbone, end_at, find_module
from pipeline.models.segmentation_network import SegmentationNetwork
from pipeline.training.losses import validated_epochs

Config = Mapping[str, Any]
Wildcards = Mapping[str, str]

#: Side of the square that operations are counted on.
PROBE = 256
#: Operations of the backward pass through trained layers, relative to the forward pass.
BACK = 2
#: Pixels of a cell of the maps at a stride of 4, and bytes of a cell for each class.
CELL, MAP_BYTES = 16, 2
#: Bytes per pixel of a label image's PNG (measured .031 on photographs), and bytes of a weight.
PNG_BYTES, WEIGHT_BYTES = 0.04, 4
#: Number of labels, background included, in the CRF of a prediction, for a data set like VOC.
CRF_CLASSES = {"winning": 3, "all": 21}
#: Approximate bytes of the published archives, and of the unpacked data.
DOWNLOADS = {"voc2012": 2.0e9, "sbd": 1.4e9}
DEVKIT_BYTES = 2.2e9


@dataclass(frozen=True)
class Images:
    """Numbers of a data set that estimates depend on.

    Attributes
    ----------
    train, val : int
        Number of images of each split.
    size : (int, int)
        Mean height and width.
    labels : float
        Mean number of image-level labels of an image.
    """

    train: int
    val: int
    size: tuple[int, int]
    labels: float

    def of(self, split: str) -> int:
        """Return the number of images of a split; 0 for folders, whose number is unknown."""
        return {"train": self.train, "val": self.val}.get(split, 0)


#: VOC 2012 with and without SBD.
VOC_AUG = Images(train=10_582, val=1_449, size=(385, 470), labels=1.5)
VOC = Images(train=1_464, val=1_449, size=(385, 470), labels=1.5)


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
        Amounts of other work by kind: ``crf`` in pixels x labels x iterations, ``graph_cut`` in
        pixels x classes, ``walk`` in cells x classes, ``image`` in images that are read, compared
        or written.
    bytes : float
        Size of the outputs.
    """

    network: str = ""
    training: float = 0.0
    inference: float = 0.0
    refining: Mapping[str, float] | None = None
    bytes: float = 0.0


@dataclass(frozen=True)
class Counted:
    """Operations of a network for each pixel of its input.

    Attributes
    ----------
    operations : float
        Operations of a forward pass of the whole network.
    learning : float
        Operations of those modules that are not frozen.
    parameters : int
        Number of parameters of the whole network.
    """

    operations: float
    learning: float
    parameters: int

    @property
    def step(self) -> float:
        """Operations of a training step: forward, and backward through trained modules."""
        return self.operations + BACK * self.learning


@cache
def kept_share(backbone: str, frozen: tuple[str, ...]) -> float:
    """Return the share of a classifier's activations that autograd keeps if parts are frozen.

    Parameters
    ----------
    backbone : str
        A timm model name.
    frozen : tuple of str
        Frozen modules. They have to be the first ones, so that no gradient passes them.

    Returns
    -------
    float
        Share of the output values of all other modules, in (0, 1].
    """
    sizes: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            sizes[name] = output.numel() if isinstance(output, Tensor) else 0

        return hook

    with torch.device("meta"):
        model = create_backbone(backbone, output_stride=16).eval()
        for name, part in model.named_modules():
            if not any(part.children()):
                part.register_forward_hook(note(name))
        model.forward_features(torch.zeros(1, 3, PROBE, PROBE))  # type: ignore[operator]
    inside = tuple(f"{name}." for name in frozen)
    kept = sum(size for name, size in sizes.items() if not f"{name}.".startswith(inside))
    return kept / sum(sizes.values())


@cache
def counted(
    backbone: str,
    output_stride: int,
    *,
    segmentation: bool,
    decoder: str = "separable",
    last_layer: str | None = None,
    frozen: tuple[str, ...] = (),
) -> Counted:
    """Count the operations of a network for each pixel, without computing its output.

    Parameters
    ----------
    backbone : str
        A timm model name.
    output_stride : int
    segmentation : bool
        Include the decoder of the segmentation network.
    decoder : {"separable", "full"}
        Decoder of :class:`pipeline.models.segmentation_network.SegmentationNetwork`.
    last_layer : str, optional
        Last layer of the backbone, see :func:`pipeline.models.backbone.end_at`.
    frozen : tuple of str
        Frozen modules. They have to be the first ones, so that no gradient passes them.
    """
    with torch.device("meta"):
        image = torch.zeros(1, 3, PROBE, PROBE)
        if segmentation:
            model: Any = SegmentationNetwork(backbone, 21, output_stride, decoder=decoder).eval()
            encoder = model.encoder
        else:
            model = encoder = create_backbone(backbone, output_stride=output_stride).eval()
            if last_layer:
                end_at(model, last_layer)
            model.forward = model.forward_features  # only called functions are counted
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(image)
    names = {part: f"{type(model).__name__}.{name}" for name, part in model.named_modules()}
    per_part = counter.get_flop_counts()
    frozen_counts = [per_part.get(names[find_module(encoder, name)], {}) for name in frozen]
    operations = counter.get_total_flops()
    learning = operations - sum(sum(part.values()) for part in frozen_counts)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Counted(operations / PROBE**2, learning / PROBE**2, parameters)


def work_of(rule: str, wildcards: Wildcards, config: Config, images: Images) -> Work:
    """Return the work of a job; none for rules that only read and write small files."""
    estimate = ESTIMATES.get(rule)
    return Work() if estimate is None else estimate(wildcards, config, images)


def _classifier(wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings = config["classifiers"][wildcards["classifier"]]
    network = _classifier_network(wildcards, config)
    passes = 2 if settings["puzzle"] else 1
    seen = settings["augmentation"]["crop"] ** 2 * images.train * passes
    validated = settings["eval_size"] ** 2 * images.val * len(validated_epochs(settings))
    return Work(
        settings["backbone"],
        training=network.step * seen * settings["epochs"],
        inference=network.operations * validated,
        bytes=WEIGHT_BYTES * network.parameters,
    )


def _probe(wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings = config["classifiers"][wildcards["classifier"]]
    network = _classifier_network(wildcards, config)
    pixels = _view_pixels(images, [1.0], flip=settings["flip"], max_size=settings["size"])
    operations = network.operations * pixels * images.train
    stored = WEIGHT_BYTES * network.parameters
    return Work(settings["backbone"], inference=operations, bytes=stored)


def _classify(wildcards: Wildcards, config: Config, images: Images) -> Work:
    network = _classifier_network(wildcards, config)
    pixels = _view_pixels(images, [1.0], flip=False, **config["classification"])
    own = _own(wildcards, config, images)
    return Work(_backbone(wildcards, config), inference=network.operations * pixels * own)


def _maps(wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings = config["attributions"][wildcards["attribution"]]
    segments = settings["method"] == "segmentation"
    network = _segmentation_network(config) if segments else _classifier_network(wildcards, config)
    pixels, own = _pixels_of(settings, images), _own(wildcards, config, images)
    if settings["method"] not in {"cam", "segmentation"}:
        # One backward pass for each class, through each crop and each of its noisy copies.
        noisy = settings.get("smooth_grad") or {"samples": 1}
        pixels *= (1 + 2 * images.labels) * settings.get("crops", 1) * noisy["samples"]
    return Work(
        config["segmentation"]["backbone"] if segments else _backbone(wildcards, config),
        inference=network.operations * pixels * own,
        refining={"image": own},
        bytes=(1 + CELL * settings.get("full_resolution", False)) * _map_bytes(images) * own,
    )


def _walk(wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings = config["random_walks"][wildcards["walk"]]
    network, own = _classifier_network(wildcards, config), _own(wildcards, config, images)
    height, width = images.size
    crop = config["affinity"]["augmentation"]["crop"]
    seen = at_least(fitted_size(images.size, settings["max_size"]), crop)
    pixels = seen[0] * seen[1] * (2 if settings["flip"] else 1)
    return Work(
        _backbone(wildcards, config),
        inference=network.operations * pixels * own,
        refining={"image": own, "walk": height * width / CELL * images.labels * own},
        bytes=_map_bytes(images) * own,
    )


def _affinity(wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings, network = config["affinity"], _classifier_network(wildcards, config)
    # The backbone is frozen, so it only has forward passes.
    seen = settings["augmentation"]["crop"] ** 2 * images.train * settings["epochs"]
    return Work(
        _backbone(wildcards, config),
        inference=network.operations * seen,
        bytes=WEIGHT_BYTES * network.parameters,
    )


def _affinity_labels(wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings = config["affinity"]["confident_labels"]["crf"]
    own = _own({**wildcards, "split": "train"}, config, images)
    once = _crf(settings, images, images.labels + 1)
    return Work(refining={"image": own, "crf": 2 * own * once}, bytes=_png_bytes(images) * own)


def _labels(wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings = config["refinements"][wildcards["refinement"]]
    own = _own(wildcards, config, images)
    refining = {"image": own, "crf": own * _crf(settings["crf"], images, images.labels + 1)}
    if settings["graph_cut"]:
        height, width = images.size
        refining["graph_cut"] = own * height * width * images.labels
    return Work(refining=refining, bytes=_png_bytes(images) * own)


def _segmentation(_wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings, network = config["segmentation"], _segmentation_network(config)
    seen = settings["augmentation"]["crop"] ** 2 * images.train * settings["epochs"]
    return Work(
        settings["backbone"],
        training=network.step * seen,
        bytes=WEIGHT_BYTES * network.parameters,
    )


def _predictions(wildcards: Wildcards, config: Config, images: Images) -> Work:
    settings, own = config["prediction"], _own(wildcards, config, images)
    operations = _segmentation_network(config).operations * _pixels_of(settings, images)
    once = _crf(settings["crf"], images, CRF_CLASSES[settings["crf_classes"]])
    return Work(
        config["segmentation"]["backbone"],
        inference=operations * own,
        refining={"image": own, "crf": own * once},
        bytes=_png_bytes(images) * own,
    )


def _reading(wildcards: Wildcards, config: Config, images: Images, *, times: float = 1) -> Work:
    """Return the work of a job that reads all label images of a split (default: train)."""
    del config
    return Work(refining={"image": times * images.of(wildcards.get("split", "train"))})


def _download(wildcards: Wildcards, _config: Config, _images: Images) -> Work:
    return Work(bytes=DOWNLOADS[wildcards["archive"]])


#: Estimates by rule. The work of all other rules is negligible.
ESTIMATES: dict[str, Callable[[Wildcards, Config, Images], Work]] = {
    "assemble_devkit": lambda *_: Work(bytes=DEVKIT_BYTES),
    "classify": _classify,
    "compare_labels": _reading,
    "download_archive": _download,
    "evaluate_boxes": _reading,
    "evaluate_labels": _reading,
    "evaluate_predictions": _reading,
    "export_labels": _reading,
    "fit_probe": _probe,
    "make_affinity_labels": _affinity_labels,
    "make_labels": _labels,
    "make_maps": _maps,
    "make_soft_labels": _labels,
    "predict_masks": _predictions,
    "predict_soft_masks": _predictions,
    "propagate_maps": _walk,
    "sweep_thresholds": partial(_reading, times=5),
    "train_affinity": _affinity,
    "train_classifier": _classifier,
    "train_segmentation": _segmentation,
}


def _backbone(wildcards: Wildcards, config: Config) -> str:
    name: str = config["classifiers"][wildcards["classifier"]]["backbone"]
    return name


def _classifier_network(wildcards: Wildcards, config: Config) -> Counted:
    settings = config["classifiers"][wildcards["classifier"]]
    return counted(
        settings["backbone"],
        settings["output_stride"],
        segmentation=False,
        last_layer=settings["last_layer"],
        frozen=tuple(settings.get("frozen", ())),
    )


def _segmentation_network(config: Config) -> Counted:
    settings = config["segmentation"]
    return counted(
        settings["backbone"],
        settings["output_stride"],
        segmentation=True,
        decoder=settings["decoder"],
        frozen=tuple(settings["frozen"]),
    )


def _own(wildcards: Wildcards, config: Config, images: Images) -> float:
    """Return the number of images of a shard."""
    return images.of(wildcards["split"]) / float(config["shards"])


def _pixels_of(settings: Mapping[str, Any], images: Images) -> float:
    scales = settings.get("scales", [1.0])
    flip, max_size = settings["flip"], settings["max_size"]
    return _view_pixels(images, scales, flip=flip, max_size=max_size)


def _view_pixels(
    images: Images, scales: Sequence[float], *, flip: bool, max_size: int | None
) -> float:
    """Return the number of pixels of all views of an image."""
    height, width = fitted_size(images.size, max_size)
    return height * width * sum(scale**2 for scale in scales) * (2 if flip else 1)


def _crf(settings: Mapping[str, Any] | None, images: Images, labels: float) -> float:
    """Return pixels x labels x iterations of an image's CRF."""
    height, width = images.size
    return height * width * labels * settings["iterations"] if settings else 0.0


def _map_bytes(images: Images) -> float:
    height, width = images.size
    return height * width / CELL * MAP_BYTES * images.labels


def _png_bytes(images: Images) -> float:
    height, width = images.size
    return height * width * PNG_BYTES
