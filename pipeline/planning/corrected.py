"""Corrected masks of a configuration: which jobs read them.

They reach segmentation networks, exports of pseudo-labels, scores and the report, and what follows
from these. Nothing of a classifier, of a threshold or of the upper bound depends on them::

    files -> list_corrected -> corrected.csv -> train_segmentation, export_labels,
                                                evaluate_corrections, report
"""

from pathlib import Path

from pipeline.datasets.corrected.files import user_files
from pipeline.planning.contents import contents_digest
from pipeline.planning.plan import Plan


def path_of(plan: Plan) -> str | None:
    """Return the file or folder of corrected masks that the configuration names, if any."""
    path: str | None = plan.config["dataset"].get("corrected")
    return None if path is None else str(Path(path))


def digest(plan: Plan) -> str:
    """Return a digest of the names and contents of the user's files; empty without any."""
    path = path_of(plan)
    return "" if path is None else contents_digest(user_files(Path(path)))


def table(plan: Plan) -> list[str]:
    """Return the table of the corrected masks, if there are any."""
    return [] if path_of(plan) is None else [f"{plan.home}/dataset/corrected.csv"]


def findings(plan: Plan) -> list[str]:
    """Return the findings about the corrected masks, if there are any."""
    return [] if path_of(plan) is None else [f"{plan.home}/dataset/corrected_findings.json"]


def learned_for(plan: Plan, maps: str) -> list[str]:
    """Return the table of the corrected masks if a network that learned them makes maps.

    Parameters
    ----------
    plan : Plan
    maps : str
        CLASSIFIER/MAPS, or a longer path that begins with it.
    """
    return table(plan) if plan.rounds(maps) else []
