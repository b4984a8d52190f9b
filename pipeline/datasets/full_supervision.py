"""The check that full supervision is possible: every training image has a mask."""

from collections.abc import Collection, Container

from pipeline.errors import UserError


def require_all_masks(train: Collection[str], masked: Container[str]) -> None:
    """Check that all training images have a mask.

    A network that is trained on fewer images than its rivals is no upper bound.

    Parameters
    ----------
    train : collection of str
        Ids of the training images.
    masked : container of str
        Ids of the images with a mask.

    Raises
    ------
    UserError
        If a training image has no mask.
    """
    lacking = [image_id for image_id in train if image_id not in masked]
    if lacking:
        raise UserError(
            f"segmentation.trained_on: 'ground_truth' needs masks of all train images, but "
            f"{len(lacking)} of {len(train)} have none, first {lacking[0]}: add them, or remove "
            "'ground_truth'"
        )
