import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.refinement.affinity import count_pairs
from pipeline.training.augmentation import NormalizedCrop, as_image, as_mask, seeded
from pipeline.training.pair_supervision import require_pairs


@pytest.fixture
def halves():
    """Label the right half of 64 x 64 pixels."""
    label = np.zeros((64, 64), np.uint8)
    label[:, 32:] = 1
    return label


def test_a_label_in_the_middle_of_a_larger_crop_has_inner_pairs(halves):
    crop = np.full((128, 128), 255, np.uint8)
    crop[32:96, 32:96] = halves
    cells = torch.from_numpy(crop[2::4, 2::4].copy())[None]
    assert count_pairs(cells, 10, pairs="inner").tolist() == [5764, 5869, 7257]
    require_pairs([crop], 10, 4, 128, crop=128, pairs="inner")


@pytest.mark.parametrize("pairs", ["inner", "all"])
def test_a_label_that_training_pads_has_the_pairs_of_its_crops(halves, pairs):
    require_pairs([halves], 10, 4, 64, crop=128, pairs=pairs)
    require_pairs([halves[:40]], 10, 4, 64, crop=128, pairs=pairs)


@pytest.mark.parametrize("size", [(16, 48), (16, 16), (40, 40)])
def test_no_label_is_refused_of_which_a_crop_has_pairs(size):
    rng = np.random.default_rng(0)
    transform = NormalizedCrop(28, [0.5] * 3, [1.0] * 3)
    image = as_image(np.zeros((*size, 3), np.uint8))
    for _ in range(5):
        cells = rng.choice([0, 1, 255], (size[0] // 4, size[1] // 4), p=[0.1, 0.1, 0.8])
        label = cells.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
        found = torch.zeros(3, dtype=torch.int64)
        for seed in range(50):
            _, crop = seeded(transform, seed, image, as_mask(label))
            found += count_pairs(crop[None, 2::4, 2::4], 4, pairs="inner")
        if found[:2].sum() and found[2]:
            require_pairs([label], 4, 4, max(size), crop=28, pairs="inner")


def test_labels_of_one_kind_are_refused_by_what_they_lack(halves):
    with pytest.raises(
        UserError, match="the 1 confident labels have no pairs with different labels"
    ):
        require_pairs([halves * 0], 10, 4, 64, crop=128, pairs="inner")
    with pytest.raises(UserError, match="have no pairs closer than 10 cells"):
        require_pairs([halves * 0 + 255], 10, 4, 64, crop=128, pairs="inner")
