"""Per-image work in several processes."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
from threadpoolctl import threadpool_limits

from pipeline.errors import UserError
from pipeline.runtime.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Items for each worker that are submitted ahead: enough to stay busy, few enough for memory.
LOOK_AHEAD = 4
#: Seconds that starting processes takes; less remaining work than this stays in this process.
START = 3.0


def map_images(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, what: str
) -> Iterator[Result]:
    """Apply a function to every item and yield the results in order, with progress.

    Processes are used instead of threads, since pydensecrf holds Python's global lock. This
    process computes the first items. Workers start only when the remaining work outweighs their
    start-up time.

    Parameters
    ----------
    function : callable
        Must be picklable if there are several workers.
    items : sequence
        One item for each image.
    workers : int
        Maximum number of processes; 1 uses this process only.
    what : str
        Name of the task, for the log.

    Raises
    ------
    UserError
        If a worker is killed. Errors of the function are raised unchanged.
    """
    results = map(function, items) if workers == 1 else _adaptive(function, items, workers)
    yield from progress(results, total=len(items), what=what)


def _adaptive(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """Compute in this process until the remaining work takes longer than starting workers."""
    spent = 0.0
    for done, item in enumerate(items):
        left = (len(items) - done) * (spent / max(done, 1))
        if left > START or (START == 0 and len(items) > 1):
            yield from _in_processes(function, items[done:], workers)
            return
        start = time.monotonic()
        result = function(item)
        spent += time.monotonic() - start
        yield result


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    # "fork" would copy the locks of a parent process with threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(items)), mp_context=context, initializer=_one_thread
    ) as pool:
        waiting: list[Future[Result]] = []
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= LOOK_AHEAD * workers:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {workers} workers was killed, most likely for memory: run with fewer cores"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    """Limit OpenCV and NumPy's linear algebra to one thread."""
    cv2.setNumThreads(0)
    threadpool_limits(1)
