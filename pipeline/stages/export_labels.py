"""Export label images (pseudo-labels or predictions) to a format of other projects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.corrected.table import corrected_of, read_corrected, supervision
from pipeline.datasets.manifest import Manifest, Record, read_manifest
from pipeline.datasets.masks import Mask
from pipeline.datasets.review import read_left_out, without_left_out
from pipeline.errors import UserError
from pipeline.export import FORMATS
from pipeline.export.card import Provenance, data_card, readme
from pipeline.export.files import write_checksums, write_text
from pipeline.export.job import ExportOptions, Target, export_items
from pipeline.io.tables import write_json
from pipeline.report.inputs import read_score
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def export_labels(
    *,
    manifest: Path,
    classes: Path,
    labels: list[Path],
    soft: list[Path],
    scores: list[Path],
    left_out: list[Path],
    corrected: list[Path],
    format: str,
    kind: str,
    method: str,
    splits: list[str],
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    export: Path,
    threads: int,
) -> None:
    """Write the labels of some splits with a data card, a README and checksums.

    Parameters
    ----------
    manifest, classes : Path
        Images, and the class names.
    labels : list of Path
        Folders of label images ``ID.png``; not needed for soft labels.
    soft : list of Path
        Folders of soft labels ``ID.safetensors``; needed for soft labels only.
    scores : list of Path
        Score documents of the labels, as `evaluate` writes them; empty without masks.
    left_out : list of Path
        At most one table of the images that were judged bad.
    corrected : list of Path
        At most one table of corrected masks, which replace pseudo-labels, even those that were
        judged bad. Predictions stay as they are.
    format : str
        One of :data:`pipeline.export.FORMATS`.
    kind : {"pseudo_labels", "predictions"}
        Kind of the labels.
    method : str
        CLASSIFIER/MAPS/REFINEMENT, or ``ground_truth`` for the upper bound.
    splits : list of str
        ``"train"``, ``"val"`` or both.
    settings : mapping
        Settings that the labels were made with, for the data card.
    options : mapping
        Keys are the attributes of :class:`pipeline.export.job.ExportOptions`.
    export : Path
        Output: a folder; an existing one must be empty.
    threads : int
        Number of processes.

    Raises
    ------
    UserError
        If a split has no images, or a label is missing, has another size than its image or
        contains an unknown class.
    """
    data = read_manifest(manifest, classes)
    listed = _records(data, splits, manifest)
    masks = read_corrected(corrected)
    replaced = corrected_of(listed, masks) if kind == "pseudo_labels" else {}
    records = without_left_out(listed, read_left_out(left_out) - replaced.keys(), kind)
    chosen = FORMATS[format]
    folders, suffix = (soft, ".safetensors") if chosen.soft else (labels, ".png")
    items = export_items(records, folders, suffix, {k: v.path for k, v in replaced.items()})
    learned = _supervision(masks, data, settings, kind)
    target = Target(export, data.classes, ExportOptions.from_config(options), learned)
    done = chosen.write(items, target, threads)
    used = {name: getattr(target.options, name) for name in chosen.options}
    provenance = Provenance(
        kind,
        method,
        settings,
        [read_score(path) for path in scores],
        _missing(listed, records),
        list(replaced),
        learned,
    )
    card = data_card(format, provenance, used, data.classes, done)
    write_json(export / "data_card.json", card)
    write_text(export / "README.md", readme(card, chosen.loading, chosen.readers))
    write_checksums(export)


def _supervision(
    masks: Mapping[str, Mask], data: Manifest, settings: Mapping[str, Any], kind: str
) -> str:
    """Return what the labels were made from: more than image-level labels if a network learned it.

    Pseudo-labels of a later self-training round are made from the maps of a segmentation network.
    """
    of_network = kind == "predictions" or "trained_on" in settings
    return supervision(masks if of_network else {}, data.of_split("train"))


def _records(data: Manifest, splits: Sequence[str], manifest: Path) -> list[Record]:
    for split in splits:
        if not data.of_split(split):
            raise UserError(f"{manifest}: split {split} has no image, expected one or more")
    return [record for split in splits for record in data.of_split(split)]


def _missing(listed: Sequence[Record], kept: Sequence[Record]) -> list[str]:
    """Return the ids of the records that were left out."""
    known = {record.id for record in kept}
    return [record.id for record in listed if record.id not in known]


if __name__ == "__main__":
    run_stage(export_labels, snakemake)
