"""Resources that a job requests from a cluster: memory, time and GPUs.

The coefficients were measured on two CPU cores (torch 2.15.0) as the resident memory of all
processes of a job. Shared pages count once for each process, as in SLURM without cgroups and in
Snakemake's benchmark files. Estimates are upper bounds with a margin; if one is too low, the next
attempt requests more.
"""

from collections.abc import Callable, Mapping
from math import pi
from typing import Any

from pipeline.resources.jobs import Config, Job, dataset_size

#: A function of (wildcards, input, threads, attempt), as Snakemake calls it for a resource.
Resource = Callable[[Any, Any, int, int], int]

TRAINING = frozenset({"train_classifier", "train_affinity", "train_segmentation"})
INFERENCE = frozenset({
    "classify", "fit_probe", "evaluate_faithfulness", "make_maps", "predict_masks",
    "predict_soft_masks", "propagate_maps", "visualize_classes", "visualize_units",
})  # fmt: skip
PER_IMAGE = frozenset({"make_affinity_labels", "make_labels", "make_soft_labels"})

MEBIBYTE = 2**20
MARGIN = 1.15
#: MiB of the Snakemake process that runs a job on the node (150), and of its shells.
SNAKEMAKE = 200
#: MiB of a process with torch, timm and Lightning (984), and of one with NumPy and OpenCV (180).
WITH_TORCH, WITHOUT_TORCH = 1000, 200
#: MiB of a process that has started CUDA. Not measured: a guess.
WITH_CUDA = 3000
#: Ratio of resident memory to tensors kept by autograd (1.14 to 1.24), and to a layer's tensors.
TRAINING_FACTOR, INFERENCE_FACTOR = 1.25, 1.3
#: Share of its parent's resident memory that counts in each loader process (.72, .75).
SHARED = 0.8
#: MiB of kernels that oneDNN caches for images of many sizes. Shards of 200 photographs took
#: 1.8 GiB for maps and 2.5 GiB for a walk; with a single size .95 and 1.0 GiB.
MANY_SIZES = 1000
#: Copies of the weights: weights, gradients, momentum, checkpoint (measured 4.3).
COPIES = 6
#: Bytes of boundaries and paths for each pair of cells in training (46), and in a random walk.
PAIR, WALK_PAIR = 50, 8
#: Bytes of the dense CRF per pixel (313), and per pixel and class (82).
CRF_PIXEL, CRF_CLASS = 350, 90
#: Batch sizes of validation (images), of saliency and of faithfulness (pixels).
VALIDATION_BATCH, SALIENCY_PIXELS, FAITHFULNESS_PIXELS = 16, 2**20, 2**22

#: Minutes per gigapixel of training: 19 on two cores for MobileNetV2; other backbones take several
#: times as long. A tenth of it on a GPU is a guess. Inference takes a quarter (4.5).
MINUTES_CPU, MINUTES_GPU, FORWARD = 80.0, 8.0, 0.25
#: Minutes per megapixel of a CRF, graph cut or random walk in one process (at most 15 s measured).
MINUTES_REFINED = 20 / 60
#: Minutes of an empty job on a cluster's file system.
START = 20


def needs(config: Config, rule: str) -> dict[str, Any]:
    """Return all resources of a rule: ``mem_mb``, ``runtime`` and ``gpu``."""
    return {
        "mem_mb": memory(config, rule),
        "runtime": runtime(config, rule),
        "gpu": gpus(config, rule),
    }


def gpus(config: Config, rule: str) -> int:
    """Return the number of GPUs for a job of a rule.

    Parameters
    ----------
    config : mapping
        A resolved configuration; ``gpus`` is the number that share a training, 0 for the CPU.
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
    """Return the resource ``mem_mb`` of a rule: MiB, in proportion to the attempt.

    Parameters
    ----------
    config : mapping
        A resolved configuration.
    rule : str
        A rule in ``TRAINING``, ``INFERENCE`` or ``PER_IMAGE``. Profiles set the others.

    Returns
    -------
    callable
        A function of ``wildcards``, ``input`` (``manifest`` and ``classes`` are read if they
        exist), ``threads`` and ``attempt`` (from 1).
    """
    estimate = _of_kind(rule, _training_memory, _inference_memory, _label_memory)

    def mem_mb(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
        job = Job(config, rule, wildcards, dataset_size(input), threads)
        return round((SNAKEMAKE + estimate(job)) * MARGIN) * attempt

    return mem_mb


def runtime(config: Config, rule: str) -> Resource:
    """Return the resource ``runtime`` of a rule: minutes, in proportion to the attempt.

    If a training reaches its time limit, the next attempt continues from the last epoch.

    Parameters
    ----------
    config : mapping
        A resolved configuration.
    rule : str
        A rule as for :func:`memory`.

    Returns
    -------
    callable
        A function as from :func:`memory`.
    """
    estimate = _of_kind(rule, _training_minutes, _inference_minutes, _label_minutes)

    def minutes(wildcards: Any, input: Any, threads: int, attempt: int) -> int:
        job = Job(config, rule, wildcards, dataset_size(input), threads)
        return round(START + estimate(job)) * attempt

    return minutes


def _of_kind(rule: str, *estimates: Callable[[Job], float]) -> Callable[[Job], float]:
    kinds = (TRAINING, INFERENCE, PER_IMAGE)
    return next(found for kind, found in zip(kinds, estimates, strict=True) if rule in kind)


def _training_memory(job: Job) -> float:
    settings, cost, devices = job.settings, job.cost, gpus(job.config, job.rule)
    if devices:
        # Activations are on the GPUs. Each loader process counts its parent's pages.
        return devices * WITH_CUDA * (1 + SHARED * (job.threads // devices))
    kept: float = TRAINING_FACTOR * cost.training
    if job.rule == "train_affinity":
        # The backbone is frozen. A cell of 4 x 4 pixels has pairs with half a disc of others.
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
    height, width = job.dataset.size
    views, kept = job.view_pixels, INFERENCE_FACTOR * cost.inference
    host = 4e6 * cost.parameters + 16 * height * width
    if job.rule == "make_maps" and settings["method"] == "saliency":
        views = max(views, min(SALIENCY_PIXELS, views * settings["crops"]))
        kept = TRAINING_FACTOR * cost.training
    elif job.rule == "make_maps" and settings.get("layer"):
        kept = TRAINING_FACTOR * cost.training
    elif job.rule == "make_maps" and settings["method"] == "segmentation":
        # Float32: logits at the views' size, their softmax, and a copy that is resized back.
        host += 4 * (job.dataset.classes + 1) * 3 * views
    elif job.rule == "evaluate_faithfulness":
        views = max(views, FAITHFULNESS_PIXELS)
    elif job.rule == "visualize_classes":
        views, kept = job.dataset.classes * settings["size"] ** 2, TRAINING_FACTOR * cost.training
    elif job.rule == "fit_probe":
        # Features with 2048 channels, which the solvers copy to 64 bits.
        views = 2 * settings["size"] ** 2
        host += 2 * job.dataset.count * 2048 * 24
    elif job.rule == "propagate_maps":
        host += WALK_PAIR * pi / 2 * settings["radius"] ** 2 * height * width / 16
    elif job.rule in {"predict_masks", "predict_soft_masks"}:
        # Float32 probabilities: three copies of the views, one for each scale, three of the image.
        planes = 3 * views + (len(settings["scales"]) + 3) * height * width
        host += 4 * (job.dataset.classes + 1) * planes
        host += _crf_bytes(job, job.dataset.classes) if settings["crf"] else 0
    if job.rule == "make_maps" and settings.get("full_resolution"):
        # Float16 until the shard is written, then twice; float32 sums for each scale.
        own = -(-job.dataset.count // job.config["shards"])
        host += (4 * own + 8 * len(settings["scales"])) * job.dataset.labels * height * width
    if gpus(job.config, job.rule):
        return WITH_CUDA + host / MEBIBYTE
    return WITH_TORCH + MANY_SIZES + (views * kept + host) / MEBIBYTE


def _label_memory(job: Job) -> float:
    each = WITHOUT_TORCH + _crf_bytes(job, job.dataset.labels) / MEBIBYTE
    return WITHOUT_TORCH + job.threads * each


def _crf_bytes(job: Job, classes: int) -> float:
    """Return the bytes of a dense CRF on the largest image; a graph cut takes less."""
    height, width = job.dataset.size
    return height * width * (CRF_PIXEL + CRF_CLASS * (classes + 1))


def _training_minutes(job: Job) -> float:
    settings, dataset = job.settings, job.dataset
    side, devices = settings["augmentation"]["crop"], gpus(job.config, job.rule)
    pixels: float = dataset.count * settings["epochs"] * side**2 * _passes(settings)
    return pixels / 1e9 * (MINUTES_GPU / devices if devices else MINUTES_CPU)


def _inference_minutes(job: Job) -> float:
    pixels = job.dataset.count / _shards(job) * job.image_pixels
    if job.rule == "visualize_classes":
        pixels = job.dataset.classes * job.settings["steps"] * job.settings["size"] ** 2
    elif job.rule == "evaluate_faithfulness":
        pixels *= (2 * job.settings["faithfulness"]["steps"] + 2) * job.dataset.labels
    elif job.rule == "make_maps" and job.settings["method"] not in {"cam", "segmentation"}:
        # One backward pass for each label, through each crop and each of its noisy copies.
        noisy = job.settings.get("smooth_grad") or {"samples": 1}
        backward = 2 * job.dataset.labels
        pixels *= (1 + backward) * job.settings.get("crops", 1) * noisy["samples"]
    elif job.rule == "fit_probe":
        pixels = 2 * job.dataset.count * job.settings["size"] ** 2
    rate = MINUTES_GPU if gpus(job.config, job.rule) else MINUTES_CPU
    minutes = FORWARD * rate * pixels / 1e9
    refines = job.rule == "propagate_maps" or bool(job.settings.get("crf"))
    return minutes + (_label_minutes(job) * job.threads if refines else 0)


def _label_minutes(job: Job) -> float:
    height, width = job.dataset.size
    images = job.dataset.count / _shards(job) / job.threads
    return images * height * width / 1e6 * MINUTES_REFINED


def _shards(job: Job) -> int:
    """Return the number of jobs that share the images of a split; 1 for jobs without a shard."""
    return int(job.config["shards"]) if hasattr(job.wildcards, "shard") else 1


def _passes(settings: Mapping[str, Any]) -> int:
    """Return the passes of an image in a step: 2 with Puzzle-CAM's tiles, otherwise 1."""
    return 2 if settings.get("puzzle") else 1
