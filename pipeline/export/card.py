"""The data card of an export: its contents and how it was made, as JSON and as a README."""

import json
import platform
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.upper_bound import FULLY_SUPERVISED, GROUND_TRUTH
from pipeline.datasets.corrected.table import IMAGE_LABELS
from pipeline.export.images import JPEG_QUALITY
from pipeline.export.job import Exported
from pipeline.io.arrays import BACKGROUND, IGNORE
from pipeline.report.text import setting

PROJECT = "wsss-pipeline"
PACKAGES = (
    "contourpy", "numpy", "opencv-python-headless", "pillow", "pycocotools", "safetensors",
)  # fmt: skip
FULL_ORIGIN = (
    "labels were made by a network that was trained on ground-truth masks (fully supervised), not "
    "from image-level labels, and are no pseudo-labels; images keep their own license"
)
LEFT_OUT = "judged bad in the review (dataset.review)"
CORRECTED = "masks that people corrected (dataset.corrected)"
NOT_SCORED = "no masks, not scored"


@dataclass(frozen=True)
class Provenance:
    """The origin of an export's labels.

    Attributes
    ----------
    kind : {"pseudo_labels", "predictions"}
    method : str
        CLASSIFIER/MAPS/REFINEMENT, or ``ground_truth`` for the upper bound.
    settings : mapping
        Settings that the labels were made with.
    scores : sequence of mapping
        Score documents, at most one per split.
    left_out : sequence of str
        Ids of the images without a label in the export, because a review judges them bad.
    corrected : sequence of str
        Ids of the images whose label is a mask that people corrected.
    supervision : str
        What the labels were made from, as :func:`pipeline.datasets.corrected.table.supervision`
        states it.
    """

    kind: str
    method: str
    settings: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    left_out: Sequence[str] = ()
    corrected: Sequence[str] = ()
    supervision: str = IMAGE_LABELS


def data_card(
    format_name: str,
    provenance: Provenance,
    options: Mapping[str, Any],
    classes: Sequence[str],
    done: Sequence[Exported],
) -> dict[str, Any]:
    """Return the data card of an export. It has no date, so equal exports have equal cards.

    Parameters
    ----------
    format_name : str
    provenance : Provenance
    options : mapping
        The options that the format uses.
    classes : sequence of C str
    done : sequence of Exported
        The summary of each image.
    """
    names = ["background", *classes]
    documents = {score["split"]: score for score in provenance.scores}
    splits = list(dict.fromkeys(one.split for one in done))
    return {
        "format": format_name,
        "kind": provenance.kind,
        "method": provenance.method,
        "origin": _origin(provenance, len(done)),
        "splits": {
            split: _split([one for one in done if one.split == split], names) for split in splits
        },
        "scores": {split: _score(documents.get(split)) for split in splits},
        "settings": provenance.settings,
        "options": options,
        **_listed("left_out", provenance.left_out, LEFT_OUT),
        **_listed("corrected", provenance.corrected, CORRECTED),
        "rewritten_images": sum(one.rewritten for one in done),
        "versions": versions(),
    }


def _listed(key: str, images: Sequence[str], reason: str) -> dict[str, Any]:
    """Return the card's entry about images of one kind; a card without any has no entry."""
    if not images:
        return {}
    return {key: {"images": len(images), "reason": reason, "ids": list(images)}}


def _origin(provenance: Provenance, images: int) -> str:
    """Return the supervision of an export's labels as a sentence."""
    if provenance.method == GROUND_TRUTH:
        return FULL_ORIGIN
    made = f"labels were made by a program from {provenance.supervision}"
    if count := len(provenance.corrected):
        made += f"; masks that people corrected replace {count} of {images} labels"
    return f"{made}; images keep their own license"


def _split(done: Sequence[Exported], names: Sequence[str]) -> dict[str, Any]:
    counts = np.stack([one.pixels for one in done])
    pixels, images = counts.sum(axis=0), (counts > 0).sum(axis=0)
    return {
        "images": len(done),
        "ignored_share": float(pixels[IGNORE] / pixels.sum()),
        "classes": [
            {"value": k, "name": name, "images": int(images[k]), "pixels": int(pixels[k])}
            for k, name in enumerate(names, start=BACKGROUND)
        ],
    }


def _score(document: Mapping[str, Any] | None) -> dict[str, Any]:
    if document is None:
        return {"miou": None, "classes": None, "note": NOT_SCORED}
    return {
        "miou": document["miou"],
        "classes": [{key: row[key] for key in ("name", "iou")} for row in document["classes"]],
        "images": document["images"],
        "threshold": document["threshold"],
    }


def versions() -> dict[str, str]:
    """Return the versions of this project, Python and the packages that write exports."""
    packages = {name: version(name) for name in PACKAGES}
    return {PROJECT: _project_version(), "python": platform.python_version()} | packages


def _project_version() -> str:
    # The workflow runs from a checkout, in which the package is not installed.
    checkout = Path(__file__).parents[2] / "pyproject.toml"
    if checkout.is_file():
        return str(tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]["version"])
    return version(PROJECT)


def readme(card: Mapping[str, Any], loading: str, readers: str) -> str:
    """Return the README of an export: its data card and loading instructions, in Markdown.

    Parameters
    ----------
    card : mapping
        As returned by :func:`data_card`.
    loading : str
        Loading instructions of the format; ``{split}`` stands for a split.
    readers : str
        The readers that the format was tested with.
    """
    splits = card["splits"]
    counts = ", ".join(f"{part['images']} of {split}" for split, part in splits.items())
    kind = card["kind"].replace("_", "-").capitalize()
    fully = card["method"] == GROUND_TRUTH
    title = f"{kind}, {FULLY_SUPERVISED}" if fully else f"{kind} of {card['method']}"
    lines = [
        f"# {title}, format {card['format']}",
        "",
        f"Images: {counts}. Note: {card['origin']}.",
        *_inclusion(card),
        *_omission(card),
        *_correction(card),
        "",
        *(_scored(split, score) for split, score in card["scores"].items()),
        "",
        "## Loading",
        "",
        loading.replace("{split}", next(iter(splits))),
        f"Tested with {readers}.",
        "",
        "`sha256sum --check checksums.sha256` checks all files except links to images.",
        "",
        "## Contents",
        "",
        *_class_table(card),
        "",
        "## How the labels were made",
        "",
        *(f"- {setting(key)}: {_code(_plain(value))}" for key, value in card["settings"].items()),
        "",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in card["versions"].items()),
    ]
    return "\n".join(lines) + "\n"


def _inclusion(card: Mapping[str, Any]) -> list[str]:
    if card["options"].get("images", "none") == "none":
        return ["Images are not included."]
    return [
        f"Images: {card['options']['images']}; {card['rewritten_images']} of them are rewritten "
        "(PNG and other formats, EXIF orientation, CMYK, 16 bits or transparency): every image of "
        f"an export is an upright 8-bit JPEG. Their JPEG quality is {JPEG_QUALITY}."
    ]


def _omission(card: Mapping[str, Any]) -> list[str]:
    if "left_out" not in card:
        return []
    left_out = card["left_out"]
    return [
        f"Images left out: {left_out['images']}, {left_out['reason']}. Their ids are in "
        "data_card.json. Scores count them."
    ]


def _correction(card: Mapping[str, Any]) -> list[str]:
    if "corrected" not in card:
        return []
    corrected = card["corrected"]
    soft = " Their probabilities are 1 for the class of a pixel, and all 0 where it is ignored."
    return [
        f"Labels replaced: {corrected['images']}, by {corrected['reason']}. Their ids are in "
        "data_card.json. Scores are those of the pseudo-labels before the replacement."
        + (soft if card["format"] == "soft" else "")
    ]


def _scored(split: str, score: Mapping[str, Any]) -> str:
    if score["miou"] is None:
        return f"- {split}: {score.get('note', 'no class in the scored masks')}"
    return f"- {split}: mIoU {100 * score['miou']:.1f} % on {score['images']} images with masks" + (
        f"; threshold {_plain(score['threshold'])}" if score["threshold"] else ""
    )


def _class_table(card: Mapping[str, Any]) -> list[str]:
    rows = ["| split | value | class | images | pixels | IoU |", "|---|---|---|---|---|---|"]
    for split, part in card["splits"].items():
        ious = [row["iou"] for row in card["scores"][split]["classes"] or ()]
        for k, row in enumerate(part["classes"]):
            iou = f"{100 * ious[k]:.1f} %" if ious and ious[k] is not None else "-"
            name = _text(row["name"])
            counts = f"{row['images']} | {row['pixels']}"
            rows.append(f"| {split} | {row['value']} | {name} | {counts} | {iou} |")
        rows.append(f"| {split} | 255 | ignore | | {100 * part['ignored_share']:.1f} % of all | |")
    return rows


def _text(name: str) -> str:
    """Escape the characters of a name that have a meaning in Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>()#!|&$~])", r"\\\1", name)


def _code(text: str) -> str:
    """Return a code span that is fenced by more backticks than the text contains."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
