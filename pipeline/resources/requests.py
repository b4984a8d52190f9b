"""What a job asks a cluster for: memory, time and GPUs, from the configuration and the images.

The coefficients were measured on two CPU cores (torch 2.15.0) as the resident memory of all
processes of a job, where pages that processes share count in each: so does SLURM without
cgroups, and so does Snakemake's benchmark file. Estimates are upper bounds with a margin;
where one is too low, the next attempt asks for more.
"""

from collections.abc import Callable, Mapping
from math import pi
from typing import Any

from pipeline.resources.jobs import Config, Job, pictures_of

#: Of (wildcards, input, threads, attempt), as Snakemake calls a rule's resource.
Resource = Callable[[Any, Any, int, int], int]

TRAINING = frozenset({"train_classifier", "train_affinity", "train_segmentation"})
INFERENCE = frozenset({
    "classify", "fit_probe", "evaluate_faithfulness", "make_maps", "predict_masks",
    "predict_soft_masks", "propagate_maps", "visualize_classes", "visualize_units",
})  # fmt: skip
PER_IMAGE = frozenset({"make_affinity_labels", "make_labels", "make_soft_labels"})

MEBIBYTE = 2**20
MARGIN = 1.15
#: MiB of the Snakemake that runs a job's rule on the node (150), and of its shells.
SNAKEMAKE = 200
#: MiB of a process with torch, timm and Lightning (984), and of one with NumPy and OpenCV (180).
WITH_TORCH, WITHOUT_TORCH = 1000, 200
#: MiB of a process that has started CUDA. Not measured: a guess.
WITH_CUDA = 3000
#: Resident memory over what autograd keeps (1.14 to 1.24), and over a layer's input and output.
TRAINING_FACTOR, INFERENCE_FACTOR = 1.25, 1.3
#: Share of its parent's resident memory that a process which loads samples shares (.72, .75).
SHARED = 0.8
#: MiB that kernels take which oneDNN keeps for images of many sizes: shards of 200 photographs
#: came to 1.8 GiB of maps and 2.5 GiB after a walk, where one size takes .95 and 1.0.
MANY_SIZES = 1000
#: Weights, gradients, momentum, and the copies of a checkpoint (4.3 were seen).
COPIES = 6
#: Bytes of edges and paths a pair of cells takes in training (46), and in a random walk.
PAIR, WALK_PAIR = 50, 8
#: Bytes a pixel, and a pixel and class, that the dense CRF takes (313, 82).
CRF_PIXEL, CRF_CLASS = 350, 90
#: As in pipeline.training.losses, pipeline.attribution.saliency and .judging: what passes together.
VALIDATION_BATCH, SALIENCY_PIXELS, JUDGED_PIXELS = 16, 2**20, 2**22

#: Minutes a gigapixel of training: 19 on two cores for MobileNetV2, of which other backbones take
#: a multiple. A tenth of it on a GPU is a guess. Inference takes a quarter (4.5).
MINUTES_CPU, MINUTES_GPU, FORWARD = 80.0, 8.0, 0.25
#: Minutes a megapixel of one process's CRF, graph cut or random walk (at most 15 s were seen).
MINUTES_REFINED = 20 / 60
#: Minutes of a job that does nothing, on a file system of a cluster.
START = 20


def needs(config: Config, rule: str) -> dict[str, Any]:
    """Give all resources of a rule: ``mem_mb``, ``runtime`` and ``gpu``."""
    return {
        "mem_mb": memory(config, rule),
        "runtime": runtime(config, rule),
        "gpu": gpus(config, rule),
    }


def gpus(config: Config, rule: str) -> int:
    """Give the number of GPUs that a job of a rule is given.

    Parameters
    ----------
    config : mapping
        A resolved configuration; ``gpus`` is what a training is spread over, 0 for the CPU.
    rule : str

    Returns
    -------
    int
        ``gpus`` for trainings, at most 1 for inference, 0 for all other rules.
    """
    if rule in TRAINING:
        return int(config["gpus"])
    return min(1, config["gpus"]) if rule in INFERENCE else 0


def memory(config: Config, rule: str) -> Resource:
    """Give the resource ``mem_mb`` of a rule: MiB, in proportion to the attempt.

    Parameters
    ----------
    config : mapping
        A resolved configuration.
    rule : str
        One of ``TRAINING``, ``INFERENCE`` or ``PER_IMAGE``. The others are the profile's.

    Returns
    -------
    callable
        Of ``wildcards``, ``input`` (its ``manifest`` and ``classes`` are read where they are
        there), ``threads`` and ``attempt`` (from 1).
    """
    estimate = _of_kind(rule, _training_memory, _inference_memory, _label_memory)

    def mem_mb(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
        job = Job(config, rule, wildcards, pictures_of(input), threads)
        return round((SNAKEMAKE + estimate(job)) * MARGIN) * attempt

    return mem_mb


def runtime(config: Config, rule: str) -> Resource:
    """Give the resource ``runtime`` of a rule: minutes, in proportion to the attempt.

    A training that its time limit ends goes on from its last epoch in the next attempt.

    Parameters
    ----------
    config : mapping
        A resolved configuration.
    rule : str
        As :func:`memory` takes.

    Returns
    -------
    callable
        As :func:`memory` gives.
    """
    estimate = _of_kind(rule, _training_minutes, _inference_minutes, _label_minutes)

    def minutes(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
        job = Job(config, rule, wildcards, pictures_of(input), threads)
        return round(START + estimate(job)) * attempt

    return minutes


def _of_kind(rule: str, *estimates: Callable[[Job], float]) -> Callable[[Job], float]:
    kinds = (TRAINING, INFERENCE, PER_IMAGE)
    return next(found for kind, found in zip(kinds, estimates, strict=True) if rule in kind)


def _training_memory(job: Job) -> float:
    settings, cost, devices = job.settings, job.cost, gpus(job.config, job.rule)
    if devices:
        # Activations are the GPUs'; each process that loads samples counts its parent's pages.
        return devices * WITH_CUDA * (1 + SHARED * (job.threads // devices))
    kept: float = TRAINING_FACTOR * cost.training
    if job.rule == "train_affinity":
        # The backbone is frozen. A cell of 4 x 4 pixels is paired with half a disc of others.
        pairs = pi / 2 * settings["radius"] ** 2
        kept = INFERENCE_FACTOR * cost.inference + PAIR * pairs / 16
    at_once = -(-settings["batch_size"] // settings["accumulate"])
    bytes_at_once = at_once * settings["augmentation"]["crop"] ** 2 * _passes(settings) * kept
    validated = VALIDATION_BATCH * settings.get("eval_size", 0) ** 2 * cost.inference
    own: float = max(bytes_at_once, INFERENCE_FACTOR * validated) + COPIES * 4e6 * cost.parameters
    workers = 0 if job.threads == 1 else max(1, job.threads // 4)
    return (WITH_TORCH + own / MEBIBYTE) * (1 + SHARED * workers)


def _inference_memory(job: Job) -> float:
    settings, cost = job.settings, job.cost
    height, width = job.pictures.size
    views, kept = job.view_pixels, INFERENCE_FACTOR * cost.inference
    host = 4e6 * cost.parameters + 16 * height * width
    if job.rule == "make_maps" and settings["method"] == "saliency":
        views = max(views, min(SALIENCY_PIXELS, views * settings["crops"]))
        kept = TRAINING_FACTOR * cost.training
    elif job.rule == "make_maps" and settings.get("layer"):
        kept = TRAINING_FACTOR * cost.training
    elif job.rule == "make_maps" and settings["method"] == "segmentation":
        # Float32: logits at the views' size, their softmax, and a copy that is put back.
        host += 4 * (job.pictures.classes + 1) * 3 * views
    elif job.rule == "evaluate_faithfulness":
        views = max(views, JUDGED_PIXELS)
    elif job.rule == "visualize_classes":
        views, kept = job.pictures.classes * settings["size"] ** 2, TRAINING_FACTOR * cost.training
    elif job.rule == "fit_probe":
        # Features of 2048 channels, which the solvers copy in 64 bits.
        views = 2 * settings["size"] ** 2
        host += 2 * job.pictures.count * 2048 * 24
    elif job.rule == "propagate_maps":
        host += WALK_PAIR * pi / 2 * settings["radius"] ** 2 * height * width / 16
    elif job.rule in {"predict_masks", "predict_soft_masks"}:
        # Float32 probabilities: three copies of the views', one a scale and three of the image.
        planes = 3 * views + (len(settings["scales"]) + 3) * height * width
        host += 4 * (job.pictures.classes + 1) * planes
        host += _crf_bytes(job, job.pictures.classes) if settings["crf"] else 0
    if job.rule == "make_maps" and settings.get("full_resolution"):
        # Float16 in memory until the shard is written, twice then; float32 sums of each scale.
        own = -(-job.pictures.count // job.config["shards"])
        host += (4 * own + 8 * len(settings["scales"])) * job.pictures.labels * height * width
    if gpus(job.config, job.rule):
        return WITH_CUDA + host / MEBIBYTE
    return WITH_TORCH + MANY_SIZES + (views * kept + host) / MEBIBYTE


def _label_memory(job: Job) -> float:
    each = WITHOUT_TORCH + _crf_bytes(job, job.pictures.labels) / MEBIBYTE
    return WITHOUT_TORCH + job.threads * each


def _crf_bytes(job: Job, classes: int) -> float:
    """Bytes of a dense CRF on the largest image; a graph cut takes less."""
    height, width = job.pictures.size
    return height * width * (CRF_PIXEL + CRF_CLASS * (classes + 1))


def _training_minutes(job: Job) -> float:
    settings, pictures = job.settings, job.pictures
    side, devices = settings["augmentation"]["crop"], gpus(job.config, job.rule)
    pixels: float = pictures.count * settings["epochs"] * side**2 * _passes(settings)
    return pixels / 1e9 * (MINUTES_GPU / devices if devices else MINUTES_CPU)


def _inference_minutes(job: Job) -> float:
    pixels = job.pictures.count / _shards(job) * job.image_pixels
    if job.rule == "visualize_classes":
        pixels = job.pictures.classes * job.settings["steps"] * job.settings["size"] ** 2
    elif job.rule == "evaluate_faithfulness":
        pixels *= (2 * job.settings["faithfulness"]["steps"] + 2) * job.pictures.labels
    elif job.rule == "make_maps" and job.settings["method"] not in {"cam", "segmentation"}:
        # A way back for each label, through each crop and each of its noisy copies.
        noisy = job.settings.get("smooth_grad") or {"samples": 1}
        back = 2 * job.pictures.labels
        pixels *= (1 + back) * job.settings.get("crops", 1) * noisy["samples"]
    elif job.rule == "fit_probe":
        pixels = 2 * job.pictures.count * job.settings["size"] ** 2
    rate = MINUTES_GPU if gpus(job.config, job.rule) else MINUTES_CPU
    minutes = FORWARD * rate * pixels / 1e9
    refines = job.rule == "propagate_maps" or bool(job.settings.get("crf"))
    return minutes + (_label_minutes(job) * job.threads if refines else 0)


def _label_minutes(job: Job) -> float:
    height, width = job.pictures.size
    images = job.pictures.count / _shards(job) / job.threads
    return images * height * width / 1e6 * MINUTES_REFINED


def _shards(job: Job) -> int:
    """Jobs that the images of a split are cut into; a job without a shard sees all of them."""
    return int(job.config["shards"]) if hasattr(job.wildcards, "shard") else 1


def _passes(settings: Mapping[str, Any]) -> int:
    """Count the passes of an image in a step: the puzzle's tiles are a second one."""
    return 2 if settings.get("puzzle") else 1
