"""The report's section about corrected masks: the distance of pseudo-labels to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.corrected.table import read_corrected, supervision
from pipeline.datasets.findings import Finding, read_findings
from pipeline.datasets.manifest import Manifest
from pipeline.report.inputs import read_score


@dataclass(frozen=True)
class Corrections:
    """The content of the section.

    Attributes
    ----------
    masks, train : int
        Number of corrected masks, and of train images.
    supervision : str
        What the segmentation networks were trained on.
    scores : sequence of dict
        Score documents of pseudo-labels against the corrected masks.
    findings : sequence of Finding
        Labels that differ from what the masks show.
    """

    masks: int
    train: int
    supervision: str
    scores: Sequence[Mapping[str, Any]]
    findings: Sequence[Finding]

    @property
    def learned(self) -> Sequence[str]:
        """Methods whose pseudo-labels are made by a network that learned these masks."""
        return [score["method"] for score in self.scores if score.get("corrected_masks")]


def read_corrections(
    tables: Sequence[Path], scores: Sequence[Path], findings: Sequence[Path], manifest: Manifest
) -> Corrections | None:
    """Read the scores of pseudo-labels against corrected masks.

    Parameters
    ----------
    tables, findings : sequence of Path
        At most one table of corrected masks, and the findings about it.
    scores : sequence of Path
        One score document per method.
    manifest : Manifest

    Returns
    -------
    Corrections or None
        None without corrected masks.
    """
    if not tables:
        return None
    masks, train = read_corrected(tables), manifest.of_split("train")
    return Corrections(
        masks=len(masks),
        train=len(train),
        supervision=supervision(masks, train),
        scores=[read_score(path) for path in scores],
        findings=[finding for path in findings for finding in read_findings(path)],
    )
