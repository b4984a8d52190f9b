"""Download a published archive."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.download import download
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def download_archive(*, url: str, checksum: str, archive: Path) -> None:
    """Download a file over HTTP; an interrupted download is continued.

    Parameters
    ----------
    url : str
        ``http`` or ``https``.
    checksum : str
        ``md5:HEX`` or ``sha256:HEX``.
    archive : Path
        Output: the file. It appears only after its checksum is verified.

    Raises
    ------
    UserError
        If the file cannot be downloaded or has another checksum.
    """
    what = f"download of {archive.name}"
    watch = partial(_logged, what=what)
    download(url, archive, checksum=checksum, watch=watch)


def _logged(chunks: Iterable[bytes], total: int, what: str) -> Iterator[bytes]:
    return progress(chunks, total=total, what=what, unit="MiB")


if __name__ == "__main__":
    run_stage(download_archive, snakemake)
