"""Runs a stage function as a Snakemake script: arguments, log file, error lines."""

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
from pipeline.runtime.copies import note_made

logger = logging.getLogger(__name__)

#: Params that stages have only so that Snakemake reruns their rule when they change.
TRIGGERS = frozenset({"code", "files", "place"})


def run_stage(function: Callable[..., None], snakemake: Any) -> None:
    """Call a stage function with the rule's named input, output, params, wildcards and threads.

    A rule names its files and params as the function names its arguments, so the two
    cannot drift apart: a name that the function lacks is an error at once.

    Parameters
    ----------
    function : callable
        The stage: keyword-only, annotated.
    snakemake : snakemake.iocontainers.Snakemake
        The object that Snakemake gives to a script.
    """
    with stage_log(Path(snakemake.log[0]), snakemake.rule):
        function(**stage_arguments(function, snakemake))
        if is_first_process():
            note_made(Path(path) for path in snakemake.output)


def stage_arguments(function: Callable[..., None], snakemake: Any) -> dict[str, Any]:
    """Collect a stage function's arguments from a rule.

    Returns
    -------
    dict
        Every named input and output as a path or a list of paths, every param as it is,
        and of the wildcards, the resources and ``threads`` those that the function takes.
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
        # An output may bear the name of a wildcard in its path: `maps`, for one.
        if name in parameters and name not in arguments:
            arguments[name] = int(value) if parameters[name].annotation is int else value
    if "threads" in parameters:
        arguments["threads"] = snakemake.threads
    # Resources are what may change without changing the result, so that Snakemake reruns nothing.
    arguments |= {name: value for name, value in snakemake.resources.items() if name in parameters}
    return arguments


def is_first_process() -> bool:
    """Tell whether this is the job's own process, not one that shares a training with it."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def stage_log(path: Path, name: str) -> Iterator[None]:
    """Send log records to a file and to stderr; turn an exception into one line and exit code 1."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    first = is_first_process()
    if first:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(path, mode="w", encoding="utf-8"))
    # Under the DAG the handlers of an earlier stage of the same process must not stay.
    logging.basicConfig(
        # Of several processes that train together one tells the news, all tell their errors.
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
    """Escapes control characters: names of files and classes must not reach the terminal raw."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _LogFile(logging.FileHandler):
    """A log file that says nothing of a full disk: stderr has every line as well."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _paths(value: Any) -> Path | list[Path]:
    return Path(value) if isinstance(value, str) else [Path(item) for item in value]
