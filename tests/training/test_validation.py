import pytest

from pipeline.training.validation import validated_epochs


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
    settings = {"epochs": epochs, "validate_every": every, "selection": selection}
    assert validated_epochs(settings) == expected
