"""Advice on damaged files: replace the file, or let the workflow make it again."""

from pathlib import Path

#: File that Snakemake writes into each output folder.
MADE = ".snakemake_timestamp"


def how_to_mend(path: Path, otherwise: str = "replace the file") -> str:
    """Return advice on a damaged file, as the end of a sentence.

    Parameters
    ----------
    path : Path
        The damaged file. In an output folder of a rule (the demo, a downloaded devkit), only that
        rule can replace it.
    otherwise : str
        The advice on a file of the user's.
    """
    for folder in path.parents:
        if (folder / MADE).is_file():
            return f"delete the folder {folder}, which the workflow makes again, and run again"
    return otherwise
