"""Running of a stage function as a Snakemake script: arguments, log file, error lines."""

import errno
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, printable
from pipeline.runtime.copies import record_outputs

logger = logging.getLogger(__name__)

#: Params that only make Snakemake rerun a rule when they change.
TRIGGERS = frozenset({"code", "corrected", "files", "place"})


def run_stage(function: Callable[..., None], snakemake: Any) -> None:
    """Call a stage function with the rule's named input, output, params, wildcards and threads.

    A rule uses the names of the function's arguments for its files and params. A name that the
    function does not have is an error.

    Parameters
    ----------
    function : callable
        The stage function, with annotated keyword-only arguments.
    snakemake : snakemake.iocontainers.Snakemake
        The object that Snakemake passes to a script.
    """
    with stage_log(Path(snakemake.log[0]), snakemake.rule):
        function(**stage_arguments(function, snakemake))
        if is_first_process():
            record_outputs(Path(path) for path in snakemake.output)


def stage_arguments(function: Callable[..., None], snakemake: Any) -> dict[str, Any]:
    """Return the arguments of a stage function from a rule.

    Returns
    -------
    dict
        All named inputs and outputs as a path or a list of paths, all params, and those
        wildcards, resources and ``threads`` that the function takes.
    """
    parameters = inspect.signature(function).parameters
    arguments: dict[str, Any] = {name: _paths(value) for name, value in snakemake.input.items()}
    arguments |= {name: _paths(value) for name, value in snakemake.output.items()}
    arguments |= {
        name: value
        for name, value in snakemake.params.items()
        if name not in TRIGGERS or name in parameters
    }
    for name, value in snakemake.wildcards.items():
        # An output may have the same name as a wildcard in its path, for example `maps`.
        if name in parameters and name not in arguments:
            arguments[name] = int(value) if parameters[name].annotation is int else value
    if "threads" in parameters:
        arguments["threads"] = snakemake.threads
    # Resources can change without changing results, and Snakemake does not rerun jobs for them.
    arguments |= {name: value for name, value in snakemake.resources.items() if name in parameters}
    return arguments


def is_first_process() -> bool:
    """Return whether this is the job's main process, not a further one of its training."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def stage_log(path: Path, name: str) -> Iterator[None]:
    """Send log records to a file and to stderr; turn an exception into one line and exit code 1."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    first = is_first_process()
    if first:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(path, mode="w", encoding="utf-8"))
    # `force` removes the handlers of an earlier stage in the same process.
    logging.basicConfig(
        # Only the first process of a training logs progress; every process logs errors.
        level=logging.INFO if first else logging.ERROR,
        handlers=handlers,
        force=True,
    )
    for handler in handlers:
        handler.setFormatter(_Printable(f"[{name}] %(message)s"))
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    try:
        yield
    except UserError as error:
        logger.error("ERROR: %s", error)
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            logger.exception("ERROR: %s", error)
            sys.exit(1)
        logger.error("ERROR: the disk is full (%s): free some space and run again", error)
        sys.exit(1)
    except Exception as error:
        logger.exception("ERROR: %s: %s (the full log is %s)", type(error).__name__, error, path)
        sys.exit(1)
    finally:
        logging.shutdown()


class _Printable(logging.Formatter):
    """A formatter that escapes control characters, for example in names of files and classes."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _LogFile(logging.FileHandler):
    """A log file that ignores a full disk, since stderr has every line as well."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _paths(value: Any) -> Path | list[Path]:
    return Path(value) if isinstance(value, str) else [Path(item) for item in value]
