"""Selection and order of the gallery's images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from pipeline.datasets.manifest import Record
from pipeline.report.inputs import ImageScore, representative_ids

Item = TypeVar("Item")

MOST_DOUBTFUL = "most doubtful"
#: Number of doubtful images that the page lists for each method.
MAX_LISTED = 20


@dataclass(frozen=True)
class Choice:
    """An image to show, and the groups that it belongs to."""

    split: str
    image_id: str
    groups: tuple[str, ...]


def image_groups(
    records: Sequence[Record],
    classes: Sequence[str],
    scores: Mapping[str, ImageScore],
    doubtful: Sequence[Sequence[str]],
    count: int,
) -> dict[str, list[str]]:
    """Select images of a split: overall, for every class, and with doubtful labels.

    Parameters
    ----------
    records : sequence of Record
        Records of the split.
    classes : sequence of str
        Class names without the background.
    scores : mapping by image id
        Scores of the best method; empty without ground truth.
    doubtful : sequence of sequence of str
        Image ids of each method, most doubtful first.
    count : int
        Images per group; a class has two groups. Unless it is 0, the first :data:`MAX_LISTED`
        doubtful images of each method are added.

    Returns
    -------
    dict of str to list of str
        Image ids by group. Without scores, the groups are the first images overall and of
        every class.
    """
    of_class = {name: [r.id for r in records if name in r.labels] for name in classes}
    if scores:
        overall = {image_id: score.miou for image_id, score in scores.items()}
        groups = representative_ids(overall, count)
        groups["worst"].reverse()
        for name, ids in of_class.items():
            ious = {i: scores[i].classes[name] for i in ids if name in _classes(scores, i)}
            ranked = sorted(ious, key=lambda image_id: (-ious[image_id], image_id))
            groups[f"best {name}"] = ranked[:count]
            groups[f"worst {name}"] = ranked[count:][-count:][::-1] if count else []
    else:
        groups = {"first": [record.id for record in records][: 3 * count]}
        groups |= {f"first {name}": ids[: 2 * count] for name, ids in of_class.items()}
    known = {record.id for record in records}
    listed = [ids[:MAX_LISTED] for ids in doubtful] if count else []
    turns = (image_id for image_id in _in_turn(listed) if image_id in known)
    groups[MOST_DOUBTFUL] = list(dict.fromkeys(turns))
    return {group: ids for group, ids in groups.items() if ids}


def in_order(splits: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Choice]:
    """Order the images of all splits: the first of every group, then the second, and so on.

    Parameters
    ----------
    splits : mapping of str to mapping of str to sequence of str
        Image ids by group, by split.

    Returns
    -------
    list of Choice
        Every image once, at its first position. In every prefix of the list, the numbers of
        images of two groups (or splits) that are not used up differ by at most one.
    """
    reasons: dict[tuple[str, str], list[str]] = {}
    for split, groups in splits.items():
        for group, ids in groups.items():
            for image_id in ids:
                reasons.setdefault((split, image_id), []).append(group)
    turns = _in_turn(
        [
            [(split, image_id) for image_id in _in_turn(groups.values())]
            for split, groups in splits.items()
        ]
    )
    return [Choice(*key, tuple(reasons[key])) for key in dict.fromkeys(turns)]


def _classes(scores: Mapping[str, ImageScore], image_id: str) -> Mapping[str, float]:
    return scores[image_id].classes if image_id in scores else {}


def _in_turn(lists: Iterable[Sequence[Item]]) -> Iterator[Item]:
    """Yield the first item of every list, then the second of every list that has one."""
    for turn in zip_longest(*(((item,) for item in items) for items in lists), fillvalue=()):
        yield from (item for place in turn for item in place)
