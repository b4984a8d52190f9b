import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from pipeline.io.images import resize
from pipeline.training.augmentation import (
    HideAndSeek,
    NormalizedCrop,
    RandomLongSide,
    as_image,
    as_mask,
    seeded,
    training_transform,
)
from tests.helpers.photographs import photograph

MEAN, STD = (0.5, 0.25, 0.75), (0.5, 0.5, 0.25)
SETTINGS = {"resize": [40, 60], "crop": 48, "flip": True, "color_jitter": 0.3}


def checker(height=50, width=40):
    """Image whose red channel says its label: bright where the label is 1."""
    label = np.zeros((height, width), np.uint8)
    label[: height // 2, : width // 2] = 1
    image = np.zeros((height, width, 3), np.uint8)
    image[label == 1] = (255, 0, 0)
    return image, label


def apply(seed, settings=SETTINGS, picture=None):
    image, label = picture or checker()
    transform = training_transform({"hide_and_seek": None} | settings, MEAN, STD)
    return seeded(transform, seed, as_image(image), as_mask(label))


@pytest.mark.parametrize("seed", range(8))
def test_image_and_label_move_together(seed):
    image, label = apply(seed, SETTINGS | {"color_jitter": 0})
    assert image.shape == (3, 48, 48) and image.dtype == torch.float32
    assert label.shape == (48, 48)
    red = image[0] * STD[0] + MEAN[0]
    known = label != 255
    agree = ((red > 0.5) == (label == 1))[known].float().mean()
    assert agree > 0.96  # all but pixels on the edge, which bilinear resizing blends
    assert (label == 1).any()


@pytest.mark.parametrize("long_side", [17, 20, 49, 60, 100, 180])
def test_a_labels_pixel_is_that_at_the_center_of_the_images(long_side):
    label = np.arange(60 * 45, dtype=np.int64).reshape(60, 45)
    transform = RandomLongSide(long_side, long_side)
    resized = transform(torch.zeros(3, 60, 45), tv_tensors.Mask(label))[1]
    rows, columns = (
        ((np.arange(pixels) + 0.5) * side / pixels).astype(int)
        for side, pixels in zip(label.shape, resized.shape, strict=True)
    )
    assert isinstance(resized, tv_tensors.Mask)
    np.testing.assert_array_equal(resized, label[np.ix_(rows, columns)])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_training_images_are_resized_as_those_of_inference(interpolation):
    image = photograph("astronaut", 60, 45)
    resized = RandomLongSide(41, 41, interpolation)(as_image(image)).permute(1, 2, 0).numpy()
    # 45 * 41 / 60 = 30.75
    expected = resize(image, (41, 31), interpolation)
    assert np.abs(resized.astype(int) - expected).max() <= 1
    settings = {"resize": [41, 41], "crop": 31, "flip": False, "color_jitter": 0}
    rows = apply(0, settings | {"interpolation": interpolation}, (image, image[..., 0]))[0]
    red = rows[0] * STD[0] + MEAN[0]
    gaps = [np.abs(255 * red.numpy() - expected[k : k + 31, :, 0]).max() for k in range(11)]
    assert min(gaps) < 1.1


def test_filling_is_exactly_the_mean_color_and_ignored():
    image, label = apply(0, {"resize": [20, 20], "crop": 64, "flip": False, "color_jitter": 0})
    outside = label == 255
    assert outside.sum() == 64 * 64 - 20 * 16
    assert not image[:, outside].any() and image[:, ~outside].any()


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32),
    st.sampled_from([(0.485, 0.456, 0.406), (0.5, 0.5, 0.5)]),
)  # fmt: skip
def test_crops_are_torchvisions_but_for_the_filling(height, width, size, seed, mean):
    rng = np.random.default_rng(seed)
    picture = as_image(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    label = as_mask(rng.integers(0, 3, (height, width), dtype=np.uint8))
    std = (0.229, 0.224, 0.225)
    rounded = {tv_tensors.Image: [round(255 * value) for value in mean], tv_tensors.Mask: 255}
    theirs = v2.Compose([
        v2.RandomCrop(size, pad_if_needed=True, fill=rounded),
        v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
        v2.Normalize(mean, std),
    ])  # fmt: skip
    image, mask = seeded(NormalizedCrop(size, mean, std), seed, picture, label)
    expected, known = seeded(theirs, seed, picture, label)
    assert torch.equal(mask, known)
    assert (type(image), type(mask)) == (tv_tensors.Image, tv_tensors.Mask)
    inside = known != 255
    assert torch.equal(image[:, inside], expected[:, inside])
    assert not image[:, ~inside].any()


@pytest.mark.parametrize("size", [30, 70])
def test_colors_of_a_crop_change_as_those_of_the_whole_image(size):
    image, label = photograph("astronaut", 60, 45), np.zeros((60, 45), np.uint8)
    jitter = v2.ColorJitter(brightness=0.3, saturation=0.3, hue=0.1)  # each pixel by itself
    whole = v2.Compose([jitter, NormalizedCrop(size, MEAN, STD)])
    for seed in range(4):
        inputs = as_image(image), as_mask(label)
        one = seeded(NormalizedCrop(size, MEAN, STD, jitter), seed, *inputs)
        for ours, expected in zip(one, seeded(whole, seed, *inputs), strict=True):
            assert torch.equal(ours, expected)
    # The contrast is that of the crop: its mean gray does not change.
    nearly_same, half = (
        seeded(NormalizedCrop(30, (0,) * 3, (1,) * 3, jitter), 3, as_image(image)).mean(dim=(1, 2))
        for jitter in (v2.ColorJitter(contrast=(factor, factor)) for factor in (0.999, 0.5))
    )
    gray = torch.tensor([0.2989, 0.587, 0.114])
    assert half @ gray == pytest.approx(float(nearly_same @ gray), abs=0.005)
    assert float(half.std()) < 0.6 * float(nearly_same.std())


def test_samples_depend_on_the_seed_only():
    one, again, other = apply(1)[0], apply(1)[0], apply(2)[0]
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (1, 1)])
def test_lines_of_pixels_keep_one(size):
    picture = (np.full((*size, 3), 255, np.uint8), np.ones(size, np.uint8))
    image, label = apply(0, picture=picture)
    assert image.shape == (3, 48, 48) and (label == 1).any()


def test_the_processs_own_random_state_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    apply(1)
    assert torch.equal(torch.rand(3), expected)


def test_the_long_side_stays_in_its_range():
    sides = set()
    for seed in range(40):
        settings = {"resize": [30, 34], "crop": 64, "flip": False, "color_jitter": 0}
        _, label = apply(seed, settings)
        sides.add(int((label != 255).any(dim=1).sum()))
    assert sides == {30, 31, 32, 33, 34}


def test_half_of_the_samples_are_mirrored():
    settings = {"resize": [50, 50], "crop": 50, "flip": True, "color_jitter": 0}
    image, label = checker(50, 50)
    left = [bool(apply(seed, settings, (image, label))[1][0, 0] == 1) for seed in range(60)]
    assert 15 < sum(left) < 45


def test_inputs_are_not_changed():
    image, label = checker()
    before = image.copy(), label.copy()
    apply(3, SETTINGS, (image, label))
    assert np.array_equal(image, before[0]) and np.array_equal(label, before[1])


def hidden(sizes, probability, seed, shape=(3, 10, 14)):
    """Return which pixels of an image of ones are hidden; hidden pixels are exactly zero."""
    image = tv_tensors.Image(torch.ones(shape))
    seen = seeded(HideAndSeek(sizes, probability), seed, image)
    assert set(seen.unique().tolist()) <= {0.0, 1.0}
    assert (seen == seen[:1]).all()  # all channels together
    return seen[0] == 0


@pytest.mark.parametrize("seed", range(5))
def test_hide_and_seek_hides_whole_patches(seed):
    mask = hidden([4], 0.5, seed)
    for top in range(0, 10, 4):
        for left in range(0, 14, 4):
            assert len(mask[top : top + 4, left : left + 4].unique()) == 1


def test_hide_and_seek_hides_the_configured_share():
    shares = [hidden([2], 0.3, seed, (3, 40, 40)).float().mean() for seed in range(20)]
    assert abs(np.mean(shares) - 0.3) < 4 * (0.3 * 0.7 / (20 * 400)) ** 0.5
    assert not hidden([2], 0.0, 0).any() and hidden([2], 1.0, 0).all()


def test_hide_and_seek_draws_one_of_its_sizes():
    whole = [not hidden([0, 1], 0.5, seed).any() for seed in range(60)]
    assert 15 < sum(whole) < 45


def test_hide_and_seek_leaves_labels_alone_and_hides_the_mean_color():
    settings = SETTINGS | {"hide_and_seek": {"sizes": [8], "probability": 1.0}}
    image, label = apply(1, settings)
    assert not image.any()
    assert torch.equal(label, apply(1, SETTINGS)[1])
