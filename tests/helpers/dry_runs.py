"""Several dry runs of Snakemake's command line in one process, since its start takes longest.

Reads a JSON list of argument lists, and prints a JSON list of what each run prints.
"""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from snakemake.cli import main


def printed_by(arguments: list[str]) -> str:
    """Return what a run that succeeds prints."""
    printed, code = io.StringIO(), None
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
    if code:
        sys.exit(f"{' '.join(arguments)}: exit code {code}\n{printed.getvalue()}")
    return printed.getvalue()


if __name__ == "__main__":
    print(json.dumps([printed_by(arguments) for arguments in json.load(sys.stdin)]))
