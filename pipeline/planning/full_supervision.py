"""The check of an upper bound before anything runs: every training image has a mask."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.datasets.full_supervision import require_all_masks
from pipeline.datasets.readers import read_dataset
from pipeline.errors import UserError
from pipeline.planning.inputs import dataset_section, devkit, is_downloaded
from pipeline.planning.plan import Plan


def unmasked_images(plan: Plan) -> Iterator[str]:
    """Yield a problem if the plan has an upper bound and training images lack a mask.

    A data set that is not downloaded yet is checked by the training. Other problems of a data set
    are left to the rules that read it.
    """
    config = plan.config
    if not plan.has_upper_bound or config["dataset"]["kind"] == "demo":
        return
    if is_downloaded(config) and not Path(devkit(config)).is_dir():
        return
    try:
        candidates = read_dataset(dataset_section(plan), config["seed"]).candidates
    except UserError:
        return
    train = [candidate for candidate in candidates if candidate.split == "train"]
    try:
        require_all_masks([c.id for c in train], {c.id for c in train if c.mask})
    except UserError as error:
        yield str(error)
