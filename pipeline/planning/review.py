"""The review of a configuration: which jobs read it, and which changes make them run again.

Each rule gets a digest of the part that it uses. So a corrected label reruns everything, a bad
verdict reruns the trainings of segmentation networks and the exports, and a note reruns nothing.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from snakemake.io import ancient

from pipeline.datasets.manifest import read_classes
from pipeline.datasets.review import Judgment, bad_images, corrected_labels, read_review
from pipeline.datasets.source import MAX_NAME_LENGTH, unknown_label
from pipeline.errors import shortened
from pipeline.io.tables import read_table
from pipeline.planning.plan import Plan

#: Maximum number of images that a warning names.
MAX_NAMES = 5


def path_of(plan: Plan) -> str | None:
    """Return the review that the configuration names, if any."""
    path: str | None = plan.config["dataset"].get("review")
    return path


def check_review(plan: Plan) -> None:
    """Read the review, if any.

    Raises
    ------
    UserError
        If the review is missing or damaged, a verdict is unknown, or an image has two rows.
    """
    _judgments(plan)


def unused_rows(plan: Plan) -> str:
    """Return a warning about rows of images that the manifest lacks and that no job checks.

    Images with a bad verdict or corrected labels are checked by the jobs that use them. The
    warning is empty before there is a manifest, and if all images are known.
    """
    manifest = Path(plan.home) / "dataset/manifest.csv"
    rest = [j.image for j in _judgments(plan) if j.verdict != "bad" and j.labels is None]
    if not rest or not manifest.is_file():
        return ""
    known = {row["id"] for row in read_table(manifest, needed=["id"])}
    unknown = [shortened(image, MAX_NAME_LENGTH) for image in rest if image not in known]
    if not unknown:
        return ""
    names = ", ".join(unknown[:MAX_NAMES]) + (", ..." if len(unknown) > MAX_NAMES else "")
    return (
        f"{path_of(plan)}: it has rows of images that {manifest} lacks: {names}; correct their "
        "ids, or delete the rows"
    )


def unknown_classes(plan: Plan) -> list[str]:
    """Return a warning for each corrected label that is no class of the data set as it is now.

    They are no errors, because a changed data set can have the class. There are no warnings before
    the data set is prepared.
    """
    path = Path(plan.home) / "dataset/classes.json"
    if not path.is_file():
        return []
    classes = read_classes(path)
    found = [
        unknown_label(f"{path_of(plan)}, {image}", name, classes)
        for image, labels in corrected_labels(_judgments(plan)).items()
        for name in labels
        if name not in classes
    ]
    more = [f"and {len(found) - MAX_NAMES} more unknown labels"] if len(found) > MAX_NAMES else []
    return [*found[:MAX_NAMES], *more]


def source(plan: Plan) -> Any:
    """Return the review as an input, if any. Its modification time is ignored."""
    path = path_of(plan)
    return [] if path is None else ancient(path)


def of_labels(plan: Plan) -> str | None:
    """Return the review if it corrects image-level labels, otherwise None."""
    return path_of(plan) if corrected_labels(_judgments(plan)) else None


def labels_digest(plan: Plan) -> str:
    """Return a digest of the corrected image-level labels; empty if there are none."""
    return _digest(corrected_labels(_judgments(plan)))


def verdicts_digest(plan: Plan) -> str:
    """Return a digest of the images that were judged bad; empty if there are none."""
    return _digest(bad_images(_judgments(plan)))


def left_out(plan: Plan) -> list[str]:
    """Return the table of the images to leave out, if the review judges any image bad."""
    return [f"{plan.home}/dataset/left_out.csv"] if bad_images(_judgments(plan)) else []


def _judgments(plan: Plan) -> list[Judgment]:
    # A review that disappears during a run must stop the jobs, which read the rules again: without
    # it, they would use the images that were judged bad.
    path = path_of(plan)
    return read_review(Path(path)) if path else []


def _digest(content: Any) -> str:
    if not content:
        return ""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
