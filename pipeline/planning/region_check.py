"""The check of the user's masks for regions before a run: every train image needs masks."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.datasets.readers import read_dataset
from pipeline.datasets.region_files import unmatched
from pipeline.datasets.source import Candidate
from pipeline.errors import UserError
from pipeline.planning.inputs import dataset_section, is_made
from pipeline.planning.plan import Plan


def region_problems(plan: Plan) -> Iterator[str]:
    """Yield a problem for each folder of masks that does not fit the images of the data set.

    The jobs that read masks check the content of the files, and the masks of images in ``folders``.
    Other problems of a data set are left to the rules that read it.
    """
    folders = dict.fromkeys(filter(None, map(plan.region_folder, plan.labels)))
    if not folders or is_made(plan.config):
        return
    try:
        candidates = read_dataset(dataset_section(plan), plan.config["seed"]).candidates
    except UserError:
        return
    wanted = _ids([one for one in candidates if one.split == "train"])
    for folder in folders:
        known = [*_ids(candidates)] if not plan.folders else None
        yield from unmatched(Path(folder), wanted, known)


def _ids(candidates: list[Candidate]) -> list[str]:
    return [candidate.id for candidate in candidates]
