"""Assemble a VOC 2012 devkit from the archives of VOC and SBD."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets import devkit as voc_devkit
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def assemble_devkit(*, voc: Path, sbd: list[Path], devkit: Path, threads: int) -> None:
    """Unpack the files of VOC 2012 that the pipeline reads, and add train_aug with its masks.

    Parameters
    ----------
    voc : Path
        ``VOCtrainval_11-May-2012.tar``.
    sbd : list of Path
        At most one path of ``benchmark.tgz``; without it there is no train_aug.
    devkit : Path
        Output: the folder that contains ``JPEGImages`` and the other folders.
    threads : int
        Number of processes.

    Raises
    ------
    UserError
        If an archive is damaged, incomplete or has paths outside itself.
    """
    if len(sbd) > 1:
        raise ValueError(f"{len(sbd)} archives of SBD, expected at most one")
    voc_devkit.assemble_devkit(voc, sbd[0] if sbd else None, devkit, workers=threads)


if __name__ == "__main__":
    run_stage(assemble_devkit, snakemake)
