"""A GPU computes what the CPU computes, and computes it again bit for bit."""

import numpy as np
import pytest
import torch

from pipeline.attribution import METHODS
from pipeline.attribution.fusion import fuse
from pipeline.models.classifier import create_classifier
from pipeline.models.inference import class_probabilities
from pipeline.models.segmentation_network import create_segmentation_network
from pipeline.models.views import Views
from pipeline.runtime.device import launch, on_device
from pipeline.training.loop import train
from pipeline.training.losses import classification_step
from pipeline.training.task import Recipe, Task
from tests.helpers.training import NETWORK, PUZZLE, SETTINGS, Noise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch):
    """Multiply in float32: TensorFloat-32 has the mantissa of float16."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def trained(accelerator, folder):
    """Train a Puzzle-CAM classifier; return its weights and its losses."""
    torch.manual_seed(0)
    model = create_classifier(NETWORK, 3)
    state, history = train(
        Task(model, model.head, Noise(), classification_step(PUZZLE)),
        Recipe(SETTINGS | {"batch_norm": "train"}, 1),
        fabric=launch(accelerator, 1, "32-true", 1), checkpoint=folder / accelerator,
        fingerprint="same", workers=0,
    )  # fmt: skip
    return {name: tensor.cpu() for name, tensor in state.items()}, [r["loss"] for r in history]


def network(create, accelerator, settings):
    torch.manual_seed(0)
    return on_device(launch(accelerator, 1, "32-true", 1), create(settings, 3))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)


def test_a_training_on_a_gpu_has_the_weights_of_the_cpu(tmp_path):
    (cpu, cpu_losses), (gpu, gpu_losses) = (trained(name, tmp_path) for name in ("cpu", "cuda"))
    assert gpu_losses == pytest.approx(cpu_losses, rel=1e-3)
    assert gpu.keys() == cpu.keys()
    for name, tensor in cpu.items():
        torch.testing.assert_close(gpu[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_a_training_on_a_gpu_repeats_bit_for_bit(tmp_path):
    first, second = (trained("cuda", tmp_path / name) for name in ("a", "b"))
    assert first[1] == second[1]
    assert all(torch.equal(tensor, second[0][name]) for name, tensor in first[0].items())


@pytest.mark.parametrize("method", ["cam", "grad-cam", "grad-cam-pp", "saliency"])
def test_maps_of_a_gpu_are_those_of_the_cpu(method, image):
    views = Views((0.5, 1.0), flip=True)
    cpu, gpu = (
        fuse(METHODS[method], network(create_classifier, name, NETWORK), image,
             np.array([1, 3]), views, stride=4).values
        for name in ("cpu", "cuda")
    )  # fmt: skip
    assert cpu.max() == 1
    np.testing.assert_allclose(gpu.astype(float), cpu.astype(float), atol=5e-3)


def test_predictions_of_a_gpu_are_those_of_the_cpu(image):
    settings = {
        "backbone": "test_resnet", "pretrained": False, "output_stride": 16, "dilation": True,
        "architecture": None, "architecture_options": {}, "decoder": "separable",
        "atrous_rates": [12, 24, 36], "decoder_norm": "batch",
    }  # fmt: skip
    cpu, gpu = (
        class_probabilities(
            network(create_segmentation_network, name, settings), image, Views(flip=True)
        )
        for name in ("cpu", "cuda")
    )  # fmt: skip
    np.testing.assert_allclose(gpu, cpu, atol=1e-3)
