"""Paths of a data set's files, which the configuration names relative to the data set's root."""

from pathlib import Path

#: Beginning of a path that is relative to the workflow: lists and labels that ship with it.
WORKFLOW = "<workflow>/"
#: Folder of the Snakefile.
HOME = Path(__file__).parents[2]


def in_dataset(root: Path | str, name: Path | str) -> Path:
    """Return the path of a data set's file.

    Parameters
    ----------
    root : Path or str
        Folder of the data set.
    name : Path or str
        A path relative to the root, an absolute path, or ``<workflow>/`` and a path relative to
        the Snakefile's folder. The latter stays as it is in settings, so that they do not depend
        on where the workflow is.

    Returns
    -------
    Path
        Files of a workflow below the working folder are relative to that folder. Snakemake
        compares inputs by name, so a copy of both with their results reruns nothing.

    Examples
    --------
    >>> print(in_dataset("VOC2012", "ImageSets/Segmentation/train.txt"))
    VOC2012/ImageSets/Segmentation/train.txt
    """
    if str(name).startswith(WORKFLOW):
        path, here = HOME / str(name).removeprefix(WORKFLOW), Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) else path
    return Path(root, name)
