"""Two ways to do the same work, in turns: their processes, clocks, memory and pictures."""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

#: Does the work on some items; gives the seconds that count, or None for all that it took.
Work = Callable[[Sequence[Any]], float | None]
HEIGHT, WIDTH = 375, 500


@dataclass(frozen=True)
class Way:
    """A way to do the work.

    Attributes
    ----------
    name : str
        What the table calls it.
    make : callable
        Prepares the work in a process of its own. Picklable.
    processes : int
        Processes that share the items.
    """

    name: str
    make: Callable[[argparse.Namespace], Work]
    processes: int = 1


class Measured(NamedTuple):
    """What a way took: seconds of each turn, items a turn, and the peak memory in MB."""

    seconds: list[float]
    items: int
    megabytes: float

    @property
    def rate(self) -> float:
        """Items a second in the median turn."""
        return self.items / median(self.seconds)


class Team:
    """The processes of one way, ready to work."""

    def __init__(self, way: Way, options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        for _ in range(way.processes):
            own, other = context.Pipe()
            process = context.Process(target=_serve, args=(other, way.make, options))
            process.start()
            other.close()
            self.pipes.append(own)
            self.processes.append(process)
        for pipe in self.pipes:
            pipe.recv()

    def work(self, items: Sequence[Any]) -> float:
        """Share the items and give the seconds of the slowest process."""
        for number, pipe in enumerate(self.pipes):
            pipe.send(list(items[number :: len(self.pipes)]))
        return float(max(pipe.recv() for pipe in self.pipes))

    def dismiss(self) -> float:
        """End the processes and give their peak memory together, in MB."""
        for pipe in self.pipes:
            pipe.send(None)
        megabytes = sum(pipe.recv() for pipe in self.pipes)
        for process in self.processes:
            process.join()
        return float(megabytes)


def _serve(pipe: Connection, make: Callable[..., Work], options: argparse.Namespace) -> None:
    # A spawned process would spawn its own: let loaders start theirs as in a job.
    multiprocessing.set_start_method(None, force=True)
    work = make(options)
    pipe.send(None)
    while (items := pipe.recv()) is not None:
        started = time.perf_counter()
        counted = work(items)
        pipe.send(time.perf_counter() - started if counted is None else counted)
    pipe.send(peak_memory(options.device))


def peak_memory(device: str) -> float:
    """Give the most MB that the GPU's tensors, or this process and its largest child, have had."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated()) / 2**20
    # A process inherits the maximum that getrusage gives from whoever started it.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    own = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (int(own.split()[1]) + children) / 1024


def take_turns(
    ways: Sequence[Way], items: Sequence[Any], options: argparse.Namespace
) -> dict[str, Measured]:
    """Let every way do all items, one after the other, again and again.

    The first turn of each warms it up and does not count. At least one more follows, and
    further ones until ``options.seconds`` have passed.
    """
    teams = {way.name: Team(way, options) for way in ways}
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    for team in teams.values():
        team.work(items)
    started = time.monotonic()
    while not seconds[ways[-1].name] or time.monotonic() - started < options.seconds:
        for name, team in teams.items():
            seconds[name].append(team.work(items))
    return {
        name: Measured(seconds[name], len(items), team.dismiss()) for name, team in teams.items()
    }


def print_table(
    measured: Mapping[str, Measured], *, per_item: float = 1, unit: str = "images",
    floor: float | None = None,
) -> None:  # fmt: skip
    """Print rates, ratios to the first way, and the share of the floor.

    Parameters
    ----------
    measured : mapping of str to Measured
        The rival first.
    per_item : float
        Units an item.
    unit : str
        What is counted, in the plural.
    floor : float, optional
        Most units a second that the device could do.
    """
    print(f"| way | {unit}/s | rival's time / this | share of the floor | peak memory |")
    print("|---|---|---|---|---|")
    rival = next(iter(measured.values()))
    for name, found in measured.items():
        rate = found.rate * per_item
        share = f"{rate / floor:.0%}" if floor else "-"
        print(
            f"| {name} | {rate:.3g} | {found.rate / rival.rate:.2f}x | {share} "
            f"| {found.megabytes:.0f} MB |",
            flush=True,
        )


def make_parser(description: str | None, *, seconds: float) -> argparse.ArgumentParser:
    """Make a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU cores of either way")
    parser.add_argument("--images", type=Path, help="folder of photographs, else drawn ones")
    parser.add_argument("--count", type=int, default=16, help="images")
    parser.add_argument("--seconds", type=float, default=seconds, help="least time of all turns")
    return parser


def add_network_options(parser: argparse.ArgumentParser, *, batch: int) -> None:
    """Add the options of benchmarks that train."""
    parser.add_argument("--backbone", help="a timm network; resnet50 on a GPU, else mobilenetv2")
    parser.add_argument("--precision", default="32-true", help="arithmetic of ours")
    parser.add_argument("--crop", type=int, default=512, help="side of a training image")
    parser.add_argument("--batch", type=int, default=batch, help="images a training step")
    parser.add_argument("--loaders", type=int, default=1, help="processes that load for a step")


def network_of(options: argparse.Namespace) -> str:
    """Give the backbone that the options name, or the device's usual one."""
    usual = "resnet50" if options.device == "cuda" else "mobilenetv2_100"
    return options.backbone or usual


@contextmanager
def pictures(options: argparse.Namespace) -> Iterator[list[Path]]:
    """Give the files of the first photographs of the folder, or draw some for a while.

    Raises
    ------
    SystemExit
        If the folder has too few.
    """
    if options.images is not None:
        files = sorted(options.images.glob("*.jpg"))[: options.count]
        if len(files) < options.count:
            raise SystemExit(
                f"{options.images}: {len(files)} files end in .jpg, expected {options.count}"
            )
        yield files
        return
    with tempfile.TemporaryDirectory() as folder:
        yield [_draw(Path(folder), number) for number in range(options.count)]


def _draw(folder: Path, number: int) -> Path:
    """Draw colored clouds with noise: about the size of a photograph's file."""
    draw = np.random.default_rng(number)
    clouds = cv2.resize(draw.uniform(0, 255, (6, 8, 3)), (WIDTH, HEIGHT), interpolation=2)
    noisy = np.clip(clouds + draw.normal(0, 8, clouds.shape), 0, 255).astype(np.uint8)
    path = folder / f"{number:05d}.jpg"
    Image.fromarray(noisy).save(path, quality=90)
    return path


def machine_line(options: argparse.Namespace) -> str:
    """Say what the figures were measured on."""
    import torch

    gpu = torch.cuda.get_device_name() if options.device == "cuda" else None
    kind = "photographs" if options.images else "drawn pictures"
    name = gpu or f"{options.threads} CPU core(s)"
    return f"torch {torch.__version__}, {name}; {options.count} {kind}"
