"""Train a network on exported pseudo-labels, without any code of the workflow."""

import logging
from pathlib import Path

import PIL.Image
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import VOCSegmentation
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

SIZE, IGNORE = 64, 255

AUGMENTATION = v2.Compose(
    [
        v2.Resize((SIZE, SIZE)),  # nearest for masks
        v2.RandomHorizontalFlip(),
        v2.ToDtype({Image: torch.float32, Mask: torch.int64}, scale=True),
    ]
)


def augmented(image: PIL.Image.Image, mask: PIL.Image.Image) -> tuple[Image, Mask]:
    """Augment an image and its label image in the same way."""
    label = Mask(v2.functional.pil_to_tensor(mask)[0])
    return AUGMENTATION(v2.functional.to_image(image), label)


def train_student(labels: Path, classes: int, epochs: int, weights: Path) -> None:
    """Train a network on an export in VOC's layout, and write its weights."""
    torch.manual_seed(0)
    pairs = VOCSegmentation(labels, year="2012", image_set="train", transforms=augmented)
    loader = DataLoader(pairs, batch_size=8, shuffle=True)
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for images, masks in loader:
            loss = F.cross_entropy(network(images)["out"], masks, ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        logging.info("epoch %d of %d: loss %.3f", epoch, epochs, total / len(pairs))
    save_file(network.state_dict(), weights)


if __name__ == "__main__":
    logging.basicConfig(filename=snakemake.log[0], level=logging.INFO, format="%(message)s")
    train_student(
        Path(snakemake.input.labels),
        snakemake.params.classes,
        snakemake.params.epochs,
        Path(snakemake.output.weights),
    )
