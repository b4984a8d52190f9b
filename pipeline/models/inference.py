"""Inference of the segmentation network over the views of an image."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.datasets.manifest import Record
from pipeline.io.images import read_rgb, strided_size
from pipeline.metrics.agreement import map_agreement
from pipeline.models.segmentation_network import SegmentationNetwork, load_segmentation_network
from pipeline.models.views import Views
from pipeline.refinement.dense_crf import CrfSettings, dense_crf
from pipeline.runtime.device import on_device
from pipeline.runtime.progress import progress


@torch.no_grad()
def class_probabilities(
    model: SegmentationNetwork,
    image: NDArray[np.uint8],
    views: Views,
    *,
    fuse: str = "probabilities",
) -> NDArray[np.float32]:
    """Compute the class probabilities of a segmentation network, averaged over views.

    Parameters
    ----------
    model : SegmentationNetwork
        In evaluation mode.
    image : (H, W, 3) uint8 array
    views : Views
        Scales, mirror images and largest size.
    fuse : {"probabilities", "logits"}
        The mean of the probabilities of all views, or the softmax of the sum of their logits as in
        the published code of Puzzle-CAM. The sum is more confident with more views.

    Returns
    -------
    (C, H, W) float32 array
        Probabilities at the resolution of the image, background first. They sum to 1.
    """
    size = (image.shape[0], image.shape[1])
    fused: list[torch.Tensor] = []
    for logits in views.outputs(model, image, model):
        raw = logits.float()
        scores = raw.softmax(dim=1) if fuse == "probabilities" else raw
        full = F.interpolate(
            scores.mean(dim=0, keepdim=True), size, mode="bilinear", align_corners=False
        )
        fused.append(full[0])
    mean = torch.stack(fused).mean(dim=0)
    if fuse == "logits":
        mean = (views.count * mean).softmax(dim=0)
    return mean.cpu().numpy()


@torch.no_grad()
def labeled_probabilities(
    model: SegmentationNetwork,
    image: NDArray[np.uint8],
    classes: NDArray[np.int64],
    views: Views,
    *,
    stride: int,
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Compute class maps with a segmentation network, restricted to the image-level labels.

    Parameters
    ----------
    model : SegmentationNetwork
        In evaluation mode.
    image : (H, W, 3) uint8 array
    classes : (K,) int64 array
        Class numbers from 1.
    views : Views
        Scales, mirror images and largest size.
    stride : int
        Pixels of the image per cell of the result.

    Returns
    -------
    maps : (K, ceil(H / stride), ceil(W / stride)) float16 array
        Mean probabilities over all views, divided by the sum over these classes and the
        background.
    agreement : (K,) float32 array
        Agreement between the scales and flips
        (:func:`pipeline.metrics.agreement.map_agreement`).
    """
    size = strided_size((image.shape[0], image.shape[1]), stride)
    if len(classes) == 0:
        return np.zeros((0, *size), dtype=np.float16), np.zeros(0, dtype=np.float32)
    kept = torch.as_tensor(np.append(0, classes), device=next(model.parameters()).device)
    found = [
        F.interpolate(
            logits.float().softmax(dim=1)[:, kept],
            size, mode="bilinear", align_corners=False, antialias=True,
        )
        for logits in views.outputs(model, image, model)
    ]  # fmt: skip
    single = torch.cat(found).clamp(min=0)
    mean = single.mean(dim=0)
    # All of these probabilities may underflow to zero.
    total = mean.sum(dim=0).clamp(min=torch.finfo(mean.dtype).tiny)
    maps = (mean / total)[1:].cpu().numpy().astype(np.float16)
    return maps, map_agreement(single[:, 1:].cpu().numpy())


def winning_classes(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    crf: CrfSettings | None,
    crf_classes: str = "winning",
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Refine a prediction with a dense CRF, and keep the classes that win at some pixel.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    probabilities : (C, H, W) float32 array
    crf : CrfSettings or None
    crf_classes : {"winning", "all"}
        Classes that enter the CRF: those that win at some pixel before it, or all of them as in
        the published code of Puzzle-CAM. The cost grows with their number.

    Returns
    -------
    winners : (L,) uint8 array
        Class numbers, ascending.
    probabilities : (L, H, W) float32 array
        Probabilities of the winners. They sum to 1.
    """
    if crf is not None and crf_classes == "all":
        probabilities, crf = dense_crf(image, probabilities, crf), None
    winners = np.unique(probabilities.argmax(axis=0))
    kept = probabilities[winners]
    if crf is not None:
        kept = dense_crf(image, kept, crf)
    return winners.astype(np.uint8), kept / kept.sum(axis=0)


def predictions(
    records: Sequence[Record],
    weights: Path,
    settings: Mapping[str, Any],
    *,
    fabric: Fabric,
    what: str,
) -> Iterator[tuple[Record, NDArray[np.uint8], NDArray[np.float32]]]:
    """Yield the predictions of a trained segmentation network for many images.

    Parameters
    ----------
    records : sequence of Record
        The images. Their labels are not used.
    weights : Path
        File of the network.
    settings : mapping
        Keys ``scales``, ``flip``, ``max_size``, ``fuse``, ``crf`` and ``crf_classes``.
    fabric : Fabric
        Device and precision of the forward pass.
    what : str
        Description of the work for the log.

    Yields
    ------
    record : Record
    winners, probabilities
        Results of :func:`winning_classes`.
    """
    model = on_device(fabric, load_segmentation_network(weights))
    crf = CrfSettings.from_config(settings["crf"]) if settings["crf"] else None
    views = Views.from_settings(settings)
    for record in progress(records, total=len(records), what=what):
        image = read_rgb(record.image)
        scores = class_probabilities(model, image, views, fuse=settings["fuse"])
        yield record, *winning_classes(image, scores, crf, settings["crf_classes"])
