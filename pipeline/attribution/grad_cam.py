"""Grad-CAM and Grad-CAM++: class maps of any layer, weighted by gradients.

Both are maps sum_k w_k A^k of a layer's channels A^k; a method is what makes the weights of the
gradients g = dS_c / dA of the class's unnormalized score. Of the features under the class layer,
whose weights are W, these gradients are known: no backward pass is made for them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.models.backbone import find_module
from pipeline.models.classifier import CamClassifier

#: Maps ((K, N, C, h, w) gradients, (N, C, h, w) activations) to (K, N, C, 1, 1) weights.
ChannelWeights = Callable[[Tensor, Tensor], Tensor]


def grad_cam(
    model: CamClassifier, images: Tensor, classes: Tensor, *, layer: str | None = None
) -> Tensor:
    """Give Grad-CAM's maps of the wanted classes.

    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", eq. 1 (a channel's weight is its mean gradient) and eq. 2 (ReLU of the sum).

    Parameters
    ----------
    model : CamClassifier
        In evaluation mode; it is left as it was.
    images : (N, 3, H, W) float tensor
        Normalized images.
    classes : (K,) int64 tensor
        Class indices from 0.
    layer : str, optional
        Name of a module of the backbone whose output is one (N, C, h, w) tensor; without one,
        the features under the class convolution.

    Returns
    -------
    (N, K, h, w) float tensor
        Not below zero.

    Raises
    ------
    UserError
        If the backbone lacks the layer, or its output is not of that kind.
    """
    if layer is not None:
        return _weighted_maps(model, images, classes, layer, _mean_gradient)
    # The gradient of the features is W / m on m cells, so that its mean is W over all cells.
    features, maps = _last_layer(model, images, classes)
    return maps.relu() / (features.shape[2] * features.shape[3])


def grad_cam_pp(
    model: CamClassifier, images: Tensor, classes: Tensor, *, layer: str | None = None
) -> Tensor:
    """Give Grad-CAM++'s maps of the wanted classes.

    Chattopadhay et al. 2018, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional
    Networks": weights of eq. 5, w = sum_ij alpha_ij ReLU(dY / dA_ij), with the alpha of eq. 19,
    g^2 / (2 g^2 + sum_ab A_ab g^3), which holds for Y = exp(S) (eq. 11 to 18). There
    dY / dA = exp(S) g; the factor exp(S) is one number an image and class, and is left out, as
    it would let the scale with the highest score outweigh the others.

    Parameters and result are those of :func:`grad_cam`.
    """
    if layer is not None:
        return _weighted_maps(model, images, classes, layer, _positive_gradient)
    # With the gradient W / m on m cells, eq. 5 and 19 are ReLU(W) / (2 + W / m sum_ab A_ab).
    features, maps = _last_layer(model, images, classes)
    weights = model.head.weight.detach()[classes].flatten(1).float()
    slopes = weights / _cells_with_gradient(model, maps)[:, :, None]
    below = 2 + slopes * features.sum(dim=(2, 3))[:, None]
    factors = torch.where(weights > 0, weights / below, 0)
    return torch.einsum("nkc,nchw->nkhw", factors, features).relu()


def _last_layer(model: CamClassifier, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Give (N, C, h, w) features under the class layer and (N, K, h, w) class maps."""
    with captured(model, None) as seen:
        maps = model(images).maps
    return seen[0].detach().float(), maps.detach()[:, classes].float()


def _cells_with_gradient(model: CamClassifier, maps: Tensor) -> Tensor:
    """Count the cells that (N, K) pooled scores depend on: all, or those of the maximum."""
    if model.pooling == "gap":
        return torch.full_like(maps[:, :, 0, 0], maps.shape[2] * maps.shape[3])
    return (maps == maps.amax(dim=(2, 3), keepdim=True)).sum(dim=(2, 3))


def _mean_gradient(gradients: Tensor, _activations: Tensor) -> Tensor:
    return gradients.mean(dim=(3, 4), keepdim=True)


def _positive_gradient(gradients: Tensor, activations: Tensor) -> Tensor:
    square = gradients.square()
    rest = activations.sum(dim=(2, 3), keepdim=True) * square * gradients
    below = 2 * square + rest
    # Where g is 0, so is the numerator: such a place has no part in the weight.
    alpha = square / torch.where(below == 0, 1, below)
    return (alpha * gradients.relu()).sum(dim=(3, 4), keepdim=True)


def _weighted_maps(
    model: CamClassifier,
    images: Tensor,
    classes: Tensor,
    layer: str | None,
    weights: ChannelWeights,
) -> Tensor:
    with captured(model, layer) as seen:
        logits = model(images).logits
    (activations,) = seen
    with torch.enable_grad():
        # Images do not mix in evaluation mode: the sum over them has each one's own gradient.
        scores = logits[:, classes].float().sum(dim=0)
        (gradients,) = torch.autograd.grad(
            scores,
            activations,
            torch.eye(len(classes), device=scores.device),
            is_grads_batched=True,
        )
    values = activations.detach().float()
    maps = (weights(gradients.float(), values) * values).sum(dim=2)
    return maps.transpose(0, 1).relu()


@contextmanager
def captured(model: CamClassifier, layer: str | None) -> Iterator[list[Tensor]]:
    """Collect a layer's output of the forward pass in the block, as the leaf of its graph.

    What comes before the layer records nothing for a backward pass, so that it costs no
    memory; no parameter's state is touched.

    Parameters
    ----------
    model : CamClassifier
    layer : str or None
        As in :func:`grad_cam`.

    Yields
    ------
    list of Tensor
        One (N, C, h, w) tensor after the forward pass.
    """
    seen: list[Tensor] = []

    def keep(output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.dim() != 4:
            raise UserError(
                f"layer {layer}: its output is no (images, channels, height, width) tensor: "
                "expected a convolutional layer"
            )
        torch.set_grad_enabled(True)  # until the end of the block, which restores it
        seen.append(output.detach().requires_grad_())
        return seen[-1].clone()  # what follows may change it in place

    if layer is None:
        handle = model.head.register_forward_pre_hook(lambda _module, inputs: keep(inputs[0]))
    else:
        handle = find_module(model.backbone, layer).register_forward_hook(
            lambda _module, _inputs, output: keep(output)
        )
    try:
        with torch.no_grad():
            yield seen
    finally:
        handle.remove()
