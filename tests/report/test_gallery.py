"""The gallery under a budget, over many synthetic images."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.manifest import Manifest, Record
from pipeline.io.arrays import write_label
from pipeline.report.gallery import ROWS, Split, gallery_cards, gallery_choices
from pipeline.report.inputs import ImageScore

CLASSES = ("cat", "dog", "cow")
IMAGES = 120


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return a data set of a hundred images in two splits, with labels and scores."""
    root = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    records = []
    for k in range(IMAGES):
        image, split = root / f"{k}.jpg", "train" if k % 3 else "val"
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(image)
        write_label(root / f"{split}/i{k}.png", np.full((12, 16), 1 + k % 3, np.uint8))
        records.append(Record(f"i{k}", image, 16, 12, split, (CLASSES[k % 3],)))
    manifest = Manifest(CLASSES, tuple(records))
    splits = {
        split: Split(
            {},
            {"plain/cam/crf": [root / split]},
            {"plain/cam/crf": {
                r.id: ImageScore(k / IMAGES, {r.labels[0]: k / IMAGES})
                for k, r in enumerate(manifest.of_split(split))
            }},
            "plain/cam/crf",
        )
        for split in ("train", "val")
    }  # fmt: skip
    return SimpleNamespace(manifest=manifest, splits=splits)


def cards_of(many, budget):
    choices = gallery_choices(many.manifest, many.splits, 3)
    return choices, gallery_cards(many.manifest, {}, many.splits, choices, budget)


def spent(cards):
    whole = [*cards["train"], *cards["val"]]
    rows = [*cards["train"][:ROWS], *cards["val"][:ROWS]]
    return sum(card.size for card in whole) + sum(card.row_size for card in rows)


def test_the_gallery_fills_its_budget(many):
    choices, cards = cards_of(many, 10**9)
    assert sum(map(len, cards.values())) == len(choices) < IMAGES
    whole = spent(cards)
    assert spent(cards_of(many, whole)[1]) == whole
    _, fewer = cards_of(many, whole - 1)
    assert sum(map(len, fewer.values())) == len(choices) - 1


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_a_budget_is_kept_used_up_and_shared(many, share):
    whole = cards_of(many, 10**9)[1]
    budget = round(share * spent(whole))
    _, cards = cards_of(many, budget)
    largest = max(card.size + card.row_size for card in whole["train"] + whole["val"])
    assert budget - largest < spent(cards) <= budget
    assert abs(len(cards["train"]) - len(cards["val"])) <= 1
    # The most important come first, whatever the budget.
    for split, some in cards.items():
        assert some == whole[split][: len(some)]
        first = [card.groups[0] for card in some[:3]]
        assert first == ["best", "median", "worst"][: len(some)]


def test_a_budget_of_zero_shows_nothing(many):
    assert cards_of(many, 0)[1] == {"train": [], "val": []}


def test_the_size_counts_all_images(many):
    card = cards_of(many, 10**9)[1]["train"][0]
    assert [layer.kind for layer in card.layers] == ["label"]
    assert card.size == len(card.image + card.layers[0].url)
    assert card.row_size == len(card.image + card.image + card.layers[0].url)


def test_an_image_without_results_shows_the_image_alone(many):
    splits = {"train": Split({}, {})}
    choices = gallery_choices(many.manifest, splits, 1)
    cards = gallery_cards(many.manifest, {}, splits, choices, 10**9)["train"]
    assert cards and all(card.layers == () for card in cards)


def test_all_shows_every_image_once_and_the_important_ones_first(many):
    some = gallery_choices(many.manifest, many.splits, 4)
    every = gallery_choices(many.manifest, many.splits, "all")
    assert every[: len(some)] == some and len(some) < IMAGES
    assert sorted(choice.image_id for choice in every) == sorted(f"i{k}" for k in range(IMAGES))
    cards = gallery_cards(many.manifest, {}, many.splits, every, float("inf"))
    assert sum(map(len, cards.values())) == IMAGES
