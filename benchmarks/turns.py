"""Alternating measurements of several implementations: processes, time, memory and images."""

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

#: Does the work on some items. Returns the seconds that count, or None to count the whole call.
Work = Callable[[Sequence[Any]], float | None]
HEIGHT, WIDTH = 375, 500


@dataclass(frozen=True)
class Way:
    """One implementation of the work.

    Attributes
    ----------
    name : str
        Name in the table.
    make : callable
        Prepares the work in a new process. Picklable.
    processes : int
        Number of processes that divide the items.
    """

    name: str
    make: Callable[[argparse.Namespace], Work]
    processes: int = 1


class Measured(NamedTuple):
    """Measurements of one implementation.

    Attributes
    ----------
    seconds : list of float
        Seconds of each turn.
    items : int
        Items per turn.
    megabytes : float
        Peak memory in MB.
    """

    seconds: list[float]
    items: int
    megabytes: float

    @property
    def rate(self) -> float:
        """Items per second in the median turn."""
        return self.items / median(self.seconds)


class Team:
    """The prepared processes of one implementation."""

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
        """Divide the items among the processes and return the seconds of the slowest one."""
        for number, pipe in enumerate(self.pipes):
            pipe.send(list(items[number :: len(self.pipes)]))
        return float(max(pipe.recv() for pipe in self.pipes))

    def dismiss(self) -> float:
        """End the processes and return the sum of their peak memory in MB."""
        for pipe in self.pipes:
            pipe.send(None)
        megabytes = sum(pipe.recv() for pipe in self.pipes)
        for process in self.processes:
            process.join()
        return float(megabytes)


def _serve(pipe: Connection, make: Callable[..., Work], options: argparse.Namespace) -> None:
    """Work on items from a pipe until None arrives, then send the peak memory."""
    # Reset the start method, so that loaders start their workers as in a job.
    multiprocessing.set_start_method(None, force=True)
    work = make(options)
    pipe.send(None)
    while (items := pipe.recv()) is not None:
        started = time.perf_counter()
        counted = work(items)
        pipe.send(time.perf_counter() - started if counted is None else counted)
    pipe.send(peak_memory(options.device))


def peak_memory(device: str) -> float:
    """Return the peak MB of the GPU's tensors, or of this process and its largest child."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated()) / 2**20
    # getrusage is not used for this process, which inherits the maximum of its parent.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    own = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (int(own.split()[1]) + children) / 1024


def take_turns(
    ways: Sequence[Way], items: Sequence[Any], options: argparse.Namespace
) -> dict[str, Measured]:
    """Measure several implementations on the same items in alternating turns.

    The first turn of each is a warm-up and does not count. At least one more turn follows, and
    further turns until ``options.seconds`` have passed.
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
    """Print rates, speedups over the first implementation, and shares of the peak rate.

    Parameters
    ----------
    measured : mapping of str to Measured
        Measurements, the reference first.
    per_item : float
        Units per item.
    unit : str
        Name of the units, in the plural.
    floor : float, optional
        Largest possible number of units per second on the device.
    """
    print(f"| method | {unit}/s | reference's time / this | share of the peak rate | peak memory |")
    print("|---|---|---|---|---|")
    reference = next(iter(measured.values()))
    for name, found in measured.items():
        rate = found.rate * per_item
        share = f"{rate / floor:.0%}" if floor else "-"
        print(
            f"| {name} | {rate:.3g} | {found.rate / reference.rate:.2f}x | {share} "
            f"| {found.megabytes:.0f} MB |",
            flush=True,
        )


def make_parser(description: str | None, *, seconds: float) -> argparse.ArgumentParser:
    """Create a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU cores of each way")
    parser.add_argument("--images", type=Path, help="folder of images, else drawn ones")
    parser.add_argument("--count", type=int, default=16, help="images")
    parser.add_argument("--seconds", type=float, default=seconds, help="minimum time of all turns")
    return parser


def add_backbone_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of benchmarks with a network."""
    parser.add_argument("--backbone", help="a timm network; resnet50 on a GPU, else mobilenetv2")
    parser.add_argument("--precision", default="32-true", help="arithmetic of ours")


def add_network_options(parser: argparse.ArgumentParser, *, batch: int) -> None:
    """Add the options of benchmarks with training."""
    add_backbone_options(parser)
    parser.add_argument("--crop", type=int, default=512, help="side of a training image")
    parser.add_argument("--batch", type=int, default=batch, help="images per training step")
    parser.add_argument("--loaders", type=int, default=1, help="processes that load images")


def network_of(options: argparse.Namespace) -> str:
    """Return the backbone of the options, or the default of the device."""
    usual = "resnet50" if options.device == "cuda" else "mobilenetv2_100"
    return options.backbone or usual


@contextmanager
def image_files(options: argparse.Namespace) -> Iterator[list[Path]]:
    """Yield the first image files of the folder, or temporary files of drawn images.

    Raises
    ------
    SystemExit
        If the folder has too few images.
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
    """Draw colored clouds with noise; the file has about the size of a photograph."""
    draw = np.random.default_rng(number)
    clouds = cv2.resize(draw.uniform(0, 255, (6, 8, 3)), (WIDTH, HEIGHT), interpolation=2)
    noisy = np.clip(clouds + draw.normal(0, 8, clouds.shape), 0, 255).astype(np.uint8)
    path = folder / f"{number:05d}.jpg"
    Image.fromarray(noisy).save(path, quality=90)
    return path


def machine_line(options: argparse.Namespace) -> str:
    """Return a description of the machine and the images."""
    import torch

    gpu = torch.cuda.get_device_name() if options.device == "cuda" else None
    kind = "photographs" if options.images else "drawn images"
    name = gpu or f"{options.threads} CPU core(s)"
    return f"torch {torch.__version__}, {name}; {options.count} {kind}"
