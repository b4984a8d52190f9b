"""Advice on damaged files: replace the file, or let the workflow make it again."""

from pathlib import Path

#: File that Snakemake writes into each output folder, and whose time counts as that of the folder.
FOLDER_TIMESTAMP = ".snakemake_timestamp"


def repair_advice(path: Path, otherwise: str = "replace the file") -> str:
    """Return advice on a damaged file, as the end of a sentence.

    Parameters
    ----------
    path : Path
        The damaged file. In an output folder of a rule (the demo, a downloaded devkit), only that
        rule can replace it.
    otherwise : str
        Advice for a file that is not an output.
    """
    for folder in path.parents:
        if (folder / FOLDER_TIMESTAMP).is_file():
            return f"delete the folder {folder}, which the workflow makes again, and run again"
    return otherwise
