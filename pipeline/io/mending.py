"""The advice on a damaged file: whether a user replaces it, or the workflow makes it again."""

from pathlib import Path

#: What Snakemake leaves in a folder that is a rule's output.
MADE = ".snakemake_timestamp"


def how_to_mend(path: Path, otherwise: str = "replace the file") -> str:
    """Return what to do about a damaged file, as the end of a sentence.

    Parameters
    ----------
    path : Path
        The file. Below a folder that a rule made (the demo, a downloaded devkit) nothing else than
        that rule can replace it.
    otherwise : str
        The advice on a file of the user's.
    """
    for folder in path.parents:
        if (folder / MADE).is_file():
            return f"delete the folder {folder}, which the workflow makes again, and run again"
    return otherwise
