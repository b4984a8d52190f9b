"""Grad-CAM and Grad-CAM++: class maps of any layer, weighted by gradients.

Both compute maps sum_k w_k A^k from the channels A^k of a layer. They differ in how the weights
are computed from the gradients g = dS_c / dA of the unnormalized class score. For the features
before the class layer with its weights W, the gradients have a closed form and need no backward
pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.models.backbone import find_module
from pipeline.models.classifier import CamClassifier
from pipeline.models.grid import as_map

#: Maps ((K, N, C, h, w) gradients, (N, C, h, w) activations) to (K, N, C, 1, 1) weights.
ChannelWeights = Callable[[Tensor, Tensor], Tensor]


def grad_cam(
    model: CamClassifier, images: Tensor, classes: Tensor, *, layer: str | None = None
) -> Tensor:
    """Compute the Grad-CAM maps of some classes.

    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", eq. 1 (a channel's weight is its mean gradient) and eq. 2 (ReLU of the sum).

    Parameters
    ----------
    model : CamClassifier
        In evaluation mode. It does not change.
    images : (N, 3, H, W) float tensor
        Normalized images.
    classes : (K,) int64 tensor
        Class indices from 0.
    layer : str, optional
        Name of a module of the backbone whose output is a feature map, or tokens. By default the
        features before the class convolution.

    Returns
    -------
    (N, K, h, w) float tensor
        Non-negative maps.

    Raises
    ------
    UserError
        If the backbone does not have the layer, or if its output is not such a tensor.
    """
    if layer is not None:
        return _weighted_maps(model, images, classes, layer, _mean_gradient)
    # The gradient of the features is W / m on m cells, so its mean is W / (number of cells).
    features, maps = _last_layer(model, images, classes)
    return maps.relu() / (features.shape[2] * features.shape[3])


def grad_cam_pp(
    model: CamClassifier, images: Tensor, classes: Tensor, *, layer: str | None = None
) -> Tensor:
    """Compute the Grad-CAM++ maps of some classes.

    Chattopadhay et al. 2018, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional
    Networks": weights of eq. 5, w = sum_ij alpha_ij ReLU(dY / dA_ij), with the alpha of eq. 19,
    g^2 / (2 g^2 + sum_ab A_ab g^3), which holds for Y = exp(S) (eq. 11 to 18). There
    dY / dA = exp(S) g. The factor exp(S) is one number per image and class. It is left out,
    because with it the scale with the highest score would outweigh the others.

    Parameters and result are those of :func:`grad_cam`.
    """
    if layer is not None:
        return _weighted_maps(model, images, classes, layer, _positive_gradient)
    # With the gradient W / m on m cells, eq. 5 and 19 are ReLU(W) / (2 + W / m sum_ab A_ab).
    features, maps = _last_layer(model, images, classes)
    weights = model.head.weight.detach()[classes].flatten(1).float()
    slopes = weights / _cells_with_gradient(model, maps)[:, :, None]
    denominator = 2 + slopes * features.sum(dim=(2, 3))[:, None]
    factors = torch.where(weights > 0, weights / denominator, 0)
    return torch.einsum("nkc,nchw->nkhw", factors, features).relu()


def _last_layer(model: CamClassifier, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, C, h, w) features before the class layer and (N, K, h, w) class maps."""
    with captured_output(model, None) as outputs:
        maps = model(images).maps
    return outputs[0].detach().float(), maps.detach()[:, classes].float()


def _cells_with_gradient(model: CamClassifier, maps: Tensor) -> Tensor:
    """Return the number of cells that (N, K) pooled scores depend on: all, or the maximum's."""
    if model.pooling == "gap":
        return torch.full_like(maps[:, :, 0, 0], maps.shape[2] * maps.shape[3])
    return (maps == maps.amax(dim=(2, 3), keepdim=True)).sum(dim=(2, 3))


def _mean_gradient(gradients: Tensor, _activations: Tensor) -> Tensor:
    """Return the channel weights of Grad-CAM."""
    return gradients.mean(dim=(3, 4), keepdim=True)


def _positive_gradient(gradients: Tensor, activations: Tensor) -> Tensor:
    """Return the channel weights of Grad-CAM++."""
    square = gradients.square()
    rest = activations.sum(dim=(2, 3), keepdim=True) * square * gradients
    denominator = 2 * square + rest
    # Where g is 0, the numerator is 0 as well, so such positions do not contribute.
    alpha = square / torch.where(denominator == 0, 1, denominator)
    return (alpha * gradients.relu()).sum(dim=(3, 4), keepdim=True)


def _weighted_maps(
    model: CamClassifier,
    images: Tensor,
    classes: Tensor,
    layer: str | None,
    weights: ChannelWeights,
) -> Tensor:
    """Compute the maps of a layer with a method's channel weights, by a backward pass."""
    with captured_output(model, layer) as outputs:
        logits = model(images).logits
    (activations,) = outputs
    with torch.enable_grad():
        # In evaluation mode images are independent, so the sum yields the gradient of each image.
        scores = logits[:, classes].float().sum(dim=0)
        (gradients,) = torch.autograd.grad(
            scores,
            activations,
            torch.eye(len(classes), device=scores.device),
            is_grads_batched=True,
        )
    if layer is not None:  # as a map: tokens have another shape
        activations = as_map(model.backbone, activations)
        gradients = torch.stack([as_map(model.backbone, part) for part in gradients])
    values = activations.detach().float()
    maps = (weights(gradients.float(), values) * values).sum(dim=2)
    return maps.transpose(0, 1).relu()


@contextmanager
def captured_output(model: CamClassifier, layer: str | None) -> Iterator[list[Tensor]]:
    """Collect the output of a layer in a forward pass, as the leaf of the graph.

    Layers before it record nothing for a backward pass, which saves memory. No parameter
    changes.

    Parameters
    ----------
    model : CamClassifier
    layer : str or None
        See :func:`grad_cam`.

    Yields
    ------
    list of Tensor
        Contains the output after the forward pass: an (N, C, h, w) tensor, or what
        :func:`pipeline.models.grid.as_map` turns into one.
    """
    outputs: list[Tensor] = []

    def keep(output: Any) -> Tensor:
        features = output if layer is None else as_map(model.backbone, output)
        if not isinstance(features, Tensor) or features.dim() != 4:
            raise UserError(
                f"layer {layer}: its output is not an (images, channels, height, width) tensor: "
                "expected a convolutional layer"
            )
        torch.set_grad_enabled(True)  # until the end of the block, which restores it
        outputs.append(output.detach().requires_grad_())
        return outputs[-1].clone()  # later layers may change it in place

    if layer is None:
        handle = model.head.register_forward_pre_hook(lambda _module, inputs: keep(inputs[0]))
    else:
        handle = find_module(model.backbone, layer).register_forward_hook(
            lambda _module, _inputs, output: keep(output)
        )
    try:
        with torch.no_grad():
            yield outputs
    finally:
        handle.remove()
