"""Download and verify the pretrained weights of a backbone, so that trainings work offline."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.models.pretrained import fetch_pretrained
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def download_weights(*, backbone: str, weights: Path) -> None:
    """Download a backbone's pretrained weights from the hub.

    Parameters
    ----------
    backbone : str
        A timm model name.
    weights : Path
        Output: the weights (safetensors, in timm's naming).
    """
    fetch_pretrained(backbone, weights)


if __name__ == "__main__":
    run_stage(download_weights, snakemake)
