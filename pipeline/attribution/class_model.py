"""Class models: images that maximize a class score (Simonyan, Vedaldi and Zisserman 2013)."""

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from pipeline.models.classifier import CamClassifier

#: Number of steps between two blurs.
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
    """Compute an image with a high score and a small norm for each class.

    Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 2: the image I that
    maximizes ``S_c(I) - lambda |I|^2``, by gradient ascent from zero. S_c is the score before the
    sigmoid. Images are normalized like network inputs, so that zero is the mean image.

    Parameters
    ----------
    model : CamClassifier
        In evaluation mode. The gradients of its parameters do not change.
    classes : (K,) int64 tensor
        Class indices from 0.
    size : int
        Side of the images in pixels.
    steps : int
        Steps of the ascent.
    learning_rate : float
        Length of a step. The gradient of each image is divided by its root mean square.
    decay : float
        lambda.
    jitter : int
        Largest random shift of the images in a step, in pixels.
    blur : float
        Standard deviation, in pixels, of a Gaussian blur after every tenth step; 0 for none.
    seed : int
        Seed of the shifts.

    Returns
    -------
    (K, 3, size, size) float tensor
        Images in [0, 1]: the mean image is added, and values are clipped.
    """
    draw = torch.Generator().manual_seed(seed)
    device = classes.device
    images = torch.zeros((len(classes), 3, size, size), device=device)
    for step in range(1, steps + 1):
        shift = torch.randint(-jitter, jitter + 1, (2,), generator=draw).tolist()
        shifted = images.roll(shift, dims=(2, 3))
        gradient = _gradient(model, shifted, classes).roll([-s for s in shift], dims=(2, 3))
        gradient -= 2 * decay * images
        scale = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        images = images + learning_rate * gradient / scale.clamp(min=1e-12)
        if blur and step % BLUR_EVERY == 0:
            images = gaussian_blur(images, [2 * round(3 * blur) + 1] * 2, [blur])
    mean, std = (
        torch.tensor(part, device=device).view(3, 1, 1) for part in (model.mean, model.std)
    )
    return (images * std + mean).clamp(0, 1)


def _gradient(model: CamClassifier, images: Tensor, classes: Tensor) -> Tensor:
    """Return the gradient of each image's scores class score."""
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        scores = model(inputs).logits.float().gather(1, classes[:, None])
        (gradient,) = torch.autograd.grad(scores.sum(), inputs)
    return gradient.float()
