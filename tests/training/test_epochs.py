import pytest

from pipeline.training.epochs import number_of_epochs, validated_epochs


@pytest.mark.parametrize(
    ("epochs", "every", "selection", "expected"),
    [
        (4, None, "last", {3}),
        (4, None, "best_val_map", {0, 1, 2, 3}),
        (7, 3, "last", {2, 5, 6}),
        (7, 3, "best_val_map", {2, 5, 6}),
        (6, 3, "last", {2, 5}),
        (3, 1, "last", {0, 1, 2}),
        (2, 100, "last", {1}),
        (4, 0, "last", set()),
    ],
)
def test_epochs_that_are_validated_by_hand(epochs, every, selection, expected):
    settings = {"validate_every": every, "selection": selection}
    assert validated_epochs(settings, epochs) == expected


@pytest.mark.parametrize(
    ("images", "epochs"),
    [(64, 3), (63, 4), (47, 5), (32, 5), (16, 10), (5, 10), (1000, 3)],
)
def test_epochs_that_reach_the_minimum_of_steps_by_hand(images, epochs):
    settings = {"epochs": 3, "min_steps": 10, "batch_size": 16}
    assert number_of_epochs(settings, images) == epochs
    assert number_of_epochs(settings | {"min_steps": 0}, images) == 3
