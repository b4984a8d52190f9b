"""Pictures of what a classifier's classes look like (Simonyan, Vedaldi and Zisserman 2013)."""

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from pipeline.models.classifier import CamClassifier

#: Steps between two blurs.
BLUR_EVERY = 10


def class_models(
    model: CamClassifier,
    classes: Tensor,
    *,
    size: int,
    steps: int,
    learning_rate: float,
    decay: float,
    jitter: int = 0,
    blur: float = 0,
    seed: int = 0,
) -> Tensor:
    """Find, for each class, a picture with a high score and a small norm.

    Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 2: the picture I that
    maximizes ``S_c(I) - lambda |I|^2``, by gradient ascent from zero. S_c is the score before any
    sigmoid; pictures are normalized as the network's inputs are, so that zero is the mean image.

    Parameters
    ----------
    model : CamClassifier
        In evaluation mode; its parameters' gradients are left alone.
    classes : (K,) int64 tensor
        Class indices from 0.
    size : int
        Side of the pictures in pixels.
    steps : int
        Steps of the ascent.
    learning_rate : float
        Length of a step: the gradient of each picture is divided by its root mean square.
    decay : float
        lambda.
    jitter : int
        Largest random shift, in pixels, under which a step sees the pictures.
    blur : float
        Deviation, in pixels, of a Gaussian blur after every tenth step; 0 for none.
    seed : int
        Seed of the shifts.

    Returns
    -------
    (K, 3, size, size) float tensor
        In [0, 1]: the mean image is added, and values are cut off.
    """
    draw = torch.Generator().manual_seed(seed)
    device = classes.device
    pictures = torch.zeros((len(classes), 3, size, size), device=device)
    for step in range(1, steps + 1):
        shift = torch.randint(-jitter, jitter + 1, (2,), generator=draw).tolist()
        shifted = pictures.roll(shift, dims=(2, 3))
        gradient = _gradient(model, shifted, classes).roll([-s for s in shift], dims=(2, 3))
        gradient -= 2 * decay * pictures
        scale = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        pictures = pictures + learning_rate * gradient / scale.clamp(min=1e-12)
        if blur and step % BLUR_EVERY == 0:
            pictures = gaussian_blur(pictures, [2 * round(3 * blur) + 1] * 2, [blur])
    mean, std = (
        torch.tensor(part, device=device).view(3, 1, 1) for part in (model.mean, model.std)
    )
    return (pictures * std + mean).clamp(0, 1)


def _gradient(model: CamClassifier, pictures: Tensor, classes: Tensor) -> Tensor:
    with torch.enable_grad():
        seen = pictures.detach().requires_grad_()
        own = model(seen).logits.float().gather(1, classes[:, None])
        (gradient,) = torch.autograd.grad(own.sum(), seen)
    return gradient.float()
