"""Disturb a tiny run of the workflow, and ask that nothing but the interrupted work is lost.

    python tests/chaos.py [--seed N] [--rounds N] [--kinds KIND,...] [--rules RULE,...]
                          [--folder DIR]

An undisturbed run is the reference. A round starts from it, without the results of a drawn
job and of all that follow from it, and disturbs what makes them again:

kill     SIGKILL of a stage's process
restart  SIGKILL of Snakemake and of all its processes, then ``--unlock``
disk     a file system that is full after a part of the results, then enlarged (needs root)
corrupt  an intermediate file cut off, or a block of it overwritten, its time left as it was
replace  an intermediate file swapped for one of another shape

Then the same command must complete, to the results of the reference, without running again
what had finished. Damaged files must be named in an error line without a traceback; they are
deleted as the line says. What is compared, and what is not: :func:`comparable`.

Rounds of a folder share its reference. Processes are found in /proc: this runs on Linux alone.
"""

import argparse
import csv
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.io.arrays import read_label, read_weights, write_label
from pipeline.io.tables import read_table
from tests.helpers import REPOSITORY
from tests.helpers.workflow import TRAINING, command

EPOCHS = {"epochs": 4}
NETWORK = TRAINING | EPOCHS
CONFIG: dict[str, Any] = {
    "experiment": "chaos",
    "shards": 2,
    "dataset": {"kind": "demo", "train": 6, "val": 3, "size": 32},
    "classifiers": {
        "plain": NETWORK | {"eval_size": 32},
        "probe": {
            "kind": "linear-probe", "backbone": "test_resnet", "pretrained": False, "size": 32,
        },
    },
    "attributions": {"cam": {"scales": [1.0]}},
    "class_models": {"size": 32, "steps": 2},
    "units": {"per_class": 1, "images": 2},
    "affinity": EPOCHS | {key: TRAINING[key] for key in ("batch_size", "augmentation")},
    "random_walks": {"rw": {"radius": 3, "steps": 16}},
    "refinements": {"threshold": {"background": {"value": "mean"}}},
    "pseudo_labels": ["plain/cam/threshold", "plain/cam+rw/threshold"],
    "segmentation": NETWORK | {"trained_on": ["plain/cam+rw/threshold"]},
    "comparison": {
        "methods": ["probe/cam"],
        "split": "train",
        "localization": {"thresholds": 4},
        "faithfulness": {"steps": 2},
    },
    "export": {
        "pseudo_labels": ["plain/cam/threshold"],
        "predictions": ["plain/cam+rw/threshold"],
        "formats": ["soft"],
    },
    "folders": {
        "more": {
            "images": "pictures",
            "predictions": ["plain/cam+rw/threshold"],
            "pseudo_labels": ["plain/cam/threshold"],
            "confidence": 0.01,
        }
    },
    "evaluation": {"thresholds": 4},
    "report": {"gallery": 1},
}  # fmt: skip

#: Rules whose stage has another name.
SCRIPTS = {"evaluate_labels": "evaluate", "evaluate_predictions": "evaluate"}
TRAINERS = frozenset({"train_classifier", "train_affinity", "train_segmentation"})
DAMAGED = frozenset({".safetensors", ".png", ".csv", ".json"})
#: Columns that hold what a run took.
TIMED = frozenset({"seconds", "val_seconds", "images_per_second", "seconds_per_image", "hours"})
#: Cells of pages with a duration or a peak of memory.
_TIMED_CELL = re.compile(r'(?: data-value="[^"]*")?>(?:\d+ (?:h|min) \d\d (?:min|s)|[\d.]+ GiB)<')
_BLOCK = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", re.MULTILINE)
_STAGE_LINE = re.compile(r"^\[\w+\] .*\n", re.MULTILINE)
PATIENCE = 900.0


class UnavailableError(Exception):
    """A disturbance that this machine does not permit."""


@dataclass(frozen=True)
class Job:
    """One job of the workflow, by its files."""

    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    benchmark: str | None

    @property
    def made(self) -> tuple[str, ...]:
        """All files that other jobs may read: pages tell what benchmarks measured."""
        return self.outputs if self.benchmark is None else (*self.outputs, self.benchmark)


@dataclass(frozen=True)
class Run:
    """What one call of Snakemake printed and did."""

    code: int
    text: str

    def jobs(self) -> dict[int, Job]:
        """Return the jobs that were started, or would be, by number; without targets."""
        found = {}
        for rule, block in _BLOCK.findall(_STAGE_LINE.sub("", self.text)):
            fields = dict(re.findall(r"^    (\w+): (.*)$", block, flags=re.MULTILINE))
            if "output" in fields:
                inputs, outputs = (
                    tuple(fields.get(k, "").split(", ")) for k in ("input", "output")
                )
                found[int(fields["jobid"])] = Job(rule, inputs, outputs, fields.get("benchmark"))
        return found

    def finished(self) -> set[Job]:
        """Return the jobs that Snakemake saw to their end."""
        jobs = self.jobs()
        numbers = map(int, re.findall(r"^Finished jobid: (\d+) ", self.text, flags=re.MULTILINE))
        return {jobs[number] for number in numbers if number in jobs}

    def errors(self) -> list[str]:
        """Return the error lines of stages."""
        return [line for line in self.text.splitlines() if "] ERROR: " in line]


@dataclass
class Folder:
    """A folder in which the workflow runs; the output of its calls is kept beside it."""

    path: Path
    config: dict[str, Any]
    targets: tuple[str, ...] = ()
    calls: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-{self.calls}.log")

    def start(self, *arguments: str) -> None:
        """Call Snakemake, in a process group of its own."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.calls += 1
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command(self.path, self.config, *self.targets, *arguments),
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> Run:
        """Wait for the call's end."""
        code = self.process.wait(PATIENCE)
        return Run(code, self._log.read_text(errors="replace", encoding="utf-8"))

    def run(self, *arguments: str) -> Run:
        """Call Snakemake and wait for its end."""
        self.start(*arguments)
        return self.wait()

    def __truediv__(self, path: str) -> Path:
        return self.path / path


class Reference:
    """The undisturbed run, and what makes what in it."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        pictures = folder / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        for index, pixels in enumerate(noise):
            if not (pictures / f"{index}.png").exists():
                Image.fromarray(pixels).save(pictures / f"{index}.png")
        done = folder.run()
        if done.code:
            raise RuntimeError(f"the undisturbed run failed:\n{done.text}")
        self.jobs = set(folder.run("--forceall", "--dry-run").jobs().values())
        self.makers = {path: job for job in self.jobs for path in job.outputs}
        self.results = comparable_results(folder, folder.path)

    def after(self, *jobs: Job) -> set[Job]:
        """Return jobs and all that follow from them."""
        found, waiting = set(jobs), list(jobs)
        while waiting:
            made = set(waiting.pop().made)
            following = {job for job in self.jobs - found if made & set(job.inputs)}
            found |= following
            waiting += following
        return found

    def copy_before(self, job: Job, place: Path) -> Folder:
        """Copy the folder without the results of a job and of all that follow from it."""
        if place.exists() and not place.is_mount():
            shutil.rmtree(place)
        shutil.copytree(self.folder.path, place, dirs_exist_ok=True)
        for output in (path for later in self.after(job) for path in later.made):
            delete(place / output)
        return Folder(place, self.folder.config, self.folder.targets)

    def cpu_seconds(self, job: Job) -> float:
        """Return the processor time that a job took, or a guess."""
        if job.benchmark is None:
            return 3.0
        with (self.folder / job.benchmark).open(newline="", encoding="utf-8") as file:
            value = next(csv.DictReader(file, delimiter="\t"))["cpu_time"]
        return float(value) if value.replace(".", "").isdigit() and float(value) else 1.0

    def source_files(self, job: Job, suffixes: Iterable[str]) -> list[tuple[Job, str]]:
        """Return the files that a job reads, with the jobs that made them."""
        found = []
        for path in job.inputs:
            if path in self.makers:
                place = self.folder / path
                files = sorted(place.rglob("*")) if place.is_dir() else [place]
                found += [
                    (self.makers[path], str(file.relative_to(self.folder.path)))
                    for file in files
                    if file.suffix in suffixes and "benchmarks" not in file.parts
                ]
        return found


@dataclass
class Outcome:
    """What a round did and found."""

    kind: str
    hit: str
    moment: str
    again: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self) -> str:
        """Return a line of the table."""
        verdict = "FAILED: " + "; ".join(self.faults) if self.faults else "survived"
        cells = [self.kind, self.hit, self.moment, str(self.again), verdict, "; ".join(self.notes)]
        return "| " + " | ".join(cells) + " |"


# What must be equal ---------------------------------------------------------------------------


def comparable(path: Path, homes: Iterable[Path]) -> bytes:
    """Return a file's bytes without what no two runs share.

    Left out are the columns of ``TIMED`` (seconds and hours that a job or an epoch took, in
    histories, the comparison and the scoreboard); in pages the cells of durations, of peak
    memory and of milliseconds an image; and the folders of the runs, which an export's
    ``images.csv`` names, with the checksum of that file. All else is compared byte for byte.
    """
    content = path.read_bytes()
    for home in homes:
        content = content.replace(f"{home}/".encode(), b"")
    if path.name == "checksums.sha256":
        lines = content.splitlines()
        return b"\n".join(line for line in lines if not line.endswith(b"  images.csv"))
    if path.suffix == ".csv" and content:
        header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        kept = [number for number, name in enumerate(header) if name not in TIMED]
        if len(kept) < len(header):
            return repr([[row[number] for number in kept] for row in (header, *rows)]).encode()
    if path.suffix == ".html":
        page = _TIMED_CELL.sub("", content.decode())
        comparison = path.with_name("comparison.csv")
        for row in read_table(comparison) if comparison.exists() else ():
            page = page.replace(f">{1000 * float(row['seconds_per_image']):.1f}<", "><")
        return page.encode()
    return content


def comparable_results(folder: Folder, *homes: Path) -> dict[str, bytes]:
    """Return all results but logs and benchmarks, which tell of the run rather than of the data."""
    results = folder / "results"
    files = [path for path in results.rglob("*") if path.is_file()]
    kept = [path for path in files if not {"logs", "benchmarks"} & set(path.parts)]
    return {str(path.relative_to(folder.path)): comparable(path, homes) for path in kept}


def check_end(reference: Reference, folder: Folder, last: Run) -> Iterator[str]:
    """Return in what a folder's end is not that of the reference."""
    if last.code:
        yield f"the same command ended with {last.code}: {last.errors()[:1] or last.text[-300:]}"
        return
    results = comparable_results(folder, folder.path, reference.folder.path)
    differing = [
        path
        for path in sorted(results.keys() | reference.results.keys())
        if results.get(path) != reference.results.get(path)
    ]
    if differing:
        yield f"{len(differing)} results differ, first {differing[0]}"


def check_reruns(expected: set[Job], last: Run) -> Iterator[str]:
    """Return what ran although it had finished, or did not run although it was lacking."""
    ran = set(last.jobs().values())
    for what, jobs in (("again", ran - expected), ("not at all", expected - ran)):
        if jobs:
            rules = Counter(job.rule for job in jobs)
            yield f"ran {what}: {', '.join(f'{n} {rule}' for rule, n in sorted(rules.items()))}"


def epochs_in(folder: Folder) -> list[int]:
    """Return the whole epochs of every checkpoint."""
    paths = (folder / "results").rglob("checkpoint.safetensors")
    return [read_weights(path)[1]["epoch"] for path in paths]


def check_resumed(epochs: list[int], last: Run) -> Iterator[str]:
    """Return of checkpoints that no training went on from."""
    used = map(int, re.findall(r"continuing after epoch (\d+)", last.text))
    if lost := Counter(epochs) - Counter(used):
        yield f"lost checkpoints after epochs {sorted(lost.elements())}"


# Processes ------------------------------------------------------------------------------------


def stage_process(folder: Folder, rule: str) -> int | None:
    """Find the process of a rule's script."""
    scripts, name = f"{folder.path}/.snakemake/scripts/", f".{SCRIPTS.get(rule, rule)}.py"
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if len(words) > 1 and words[1].startswith(scripts) and words[1].endswith(name):
            return int(place.name)
    return None


def cpu_seconds(process: int) -> float:
    """Return the processor time that a process has taken; 0 for one that has ended."""
    try:
        fields = (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(folder: Folder, rule: str, reached: Callable[[int], bool]) -> int | None:
    """Wait until a rule's process has come to a moment; None if it ended before."""
    seen = None
    while folder.process.poll() is None:
        process = stage_process(folder, rule)
        if seen not in (None, process):
            break
        if process is not None and reached(process):
            return process
        seen = process
        time.sleep(0.01)
    return None


def kill_all(folder: Folder) -> None:
    """End every process of a folder, as a restart of the machine does."""
    os.killpg(folder.process.pid, signal.SIGKILL)
    folder.process.wait()
    while left := [place for place in Path("/proc").glob("[0-9]*") if _works_in(place, folder)]:
        for place in left:
            os.kill(int(place.name), signal.SIGKILL)
        time.sleep(0.05)


def _works_in(place: Path, folder: Folder) -> bool:
    try:
        state = (place / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state != "Z" and (place / "cwd").readlink().is_relative_to(folder.path)
    except OSError:
        return False


# Disturbances ---------------------------------------------------------------------------------


def interrupted(
    kind: str, reference: Reference, job: Job, place: Path, rng: random.Random
) -> Outcome:
    """Kill a job's process, or the whole run while it works."""
    seconds, epoch = rng.random() * reference.cpu_seconds(job), 0
    if job.rule in TRAINERS and rng.random() < 0.75:
        epoch = rng.randrange(1, EPOCHS["epochs"])
    for _attempt in range(5):
        folder = reference.copy_before(job, place)
        folder.start()
        process = wait_for(folder, job.rule, partial(_reached, folder, epoch, seconds))
        if process is not None:
            break
        folder.wait()
        seconds, epoch = seconds / 2, 0
    else:
        return Outcome(kind, job.rule, "", faults=["the job always ended before its moment"])
    outcome = Outcome(kind, job.rule, f"epoch {epoch}" if epoch else f"{seconds:.2f} s of CPU")
    if kind == "restart":
        kill_all(folder)
        first = folder.wait()
    else:
        os.kill(process, signal.SIGKILL)
        first = folder.wait()
        if not first.code:
            outcome.faults.append("the run did not say that a job was killed")
    epochs = epochs_in(folder)
    outcome.notes += [f"checkpoint after epoch {epoch}" for epoch in epochs]
    if kind == "restart":
        folder.run("--unlock")
    return finished(outcome, reference, job, folder, first, epochs)


def _reached(folder: Folder, epoch: int, seconds: float, process: int) -> bool:
    if epoch:
        return max(epochs_in(folder), default=0) >= epoch
    return cpu_seconds(process) >= seconds


def finished(
    outcome: Outcome, reference: Reference, job: Job, folder: Folder, first: Run, epochs: list[int]
) -> Outcome:
    """Return the same command again, and ask that it runs what lacks and nothing else."""
    last = folder.run()
    if last.code and "--unlock" in last.text:
        outcome.notes.append("unlocked")
        folder.run("--unlock")
        last = folder.run()
    outcome.again = len(last.jobs())
    outcome.faults += check_end(reference, folder, last)
    outcome.faults += check_reruns(reference.after(job) - first.finished(), last)
    outcome.faults += check_resumed(epochs, last)
    return outcome


def kill(reference: Reference, job: Job, place: Path, rng: random.Random) -> Outcome:
    """Kill a stage's process; Snakemake lives on."""
    return interrupted("kill", reference, job, place, rng)


def restart(reference: Reference, job: Job, place: Path, rng: random.Random) -> Outcome:
    """Kill all processes of the run at once."""
    return interrupted("restart", reference, job, place, rng)


@contextmanager
def small_disk(place: Path) -> Iterator[Callable[[int], None]]:
    """Mount a file system in memory; yield what sets its size in bytes.

    A limit on the size of a process's files (RLIMIT_FSIZE) would not do instead: it is
    another error (EFBIG), of one large file, and comes with a signal.
    """
    place.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        raise UnavailableError(f"no tmpfs can be mounted: {mounted.stderr.strip()}")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def disk(reference: Reference, job: Job, place: Path, rng: random.Random) -> Outcome:
    """Let the disk be full after a part of what is to be written."""
    share = rng.random()
    with small_disk(place) as resize:
        outputs = [path for later in reference.after(job) for path in later.outputs]
        wanted = sum(_size_of(reference.folder / output) for output in outputs)
        for _attempt in range(5):
            _empty(place)
            folder = reference.copy_before(job, place)
            resize(_used(folder) + int(share * wanted))
            first = folder.run()
            if first.code:
                break
            resize(2**30)
            share /= 2
        outcome = Outcome("disk", job.rule, f"{share:.0%} of {wanted // 1024} KiB")
        if not first.code:
            outcome.faults.append("the disk was never full")
            return outcome
        outcome.notes.append(_words_of_full_disk(first))
        outcome.faults += check_words(first)
        resize(2**30)
        return finished(outcome, reference, job, folder, first, epochs_in(folder))


def _used(folder: Folder) -> int:
    state = os.statvfs(folder.path)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def _size_of(path: Path) -> int:
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size + 4095 for file in files) // 4096 * 4096


def _empty(place: Path) -> None:
    for path in place.iterdir():
        delete(path)


def _words_of_full_disk(run: Run) -> str:
    if any("the disk is full" in line for line in run.errors()):
        return "the stage says so"
    return "Snakemake says so" if "No space left" in run.text else "nobody says so"


def corrupt(reference: Reference, job: Job, place: Path, rng: random.Random) -> Outcome:
    """Damage a file that a job reads, as a failing disk does: its time stays."""
    maker, path = rng.choice(reference.source_files(job, DAMAGED))
    folder = reference.copy_before(job, place)
    file = folder / path
    content, times = bytearray(file.read_bytes()), file.stat()
    start = rng.randrange(len(content))
    if rng.random() < 0.5:
        moment = f"{path} cut at byte {start} of {len(content)}"
        del content[start:]
    else:
        length = min(64, len(content) - start)
        moment = f"{path}: {length} bytes of noise at {start} of {len(content)}"
        content[start : start + length] = rng.randbytes(length)
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    return recovered(Outcome("corrupt", job.rule, moment), reference, job, folder, (maker, path))


def replace(reference: Reference, job: Job, place: Path, rng: random.Random) -> Outcome:
    """Swap a file that a job reads for a whole one of another shape."""
    folder = reference.copy_before(job, place)
    maker, path = rng.choice(replaceable(reference, job))
    if path.endswith(".png"):
        label = read_label(folder / path)
        write_label(folder / path, np.kron(label, np.ones((2, 2), np.uint8)))
        moment = f"{path} twice as large"
    elif "/maps/" in path:
        tensors = load_file(folder / path)
        for name, values in tensors.items():
            if name.endswith("/maps"):
                tensors[name] = np.kron(values, np.ones((1, 2, 2), values.dtype))
            elif name.endswith("/size"):
                tensors[name] = values * 2
        save_file(tensors, folder / path)
        moment = f"{path} of images twice as large"
    else:
        weights = sorted(path for path in reference.makers if path.endswith("model.safetensors"))
        other = rng.choice([item for item in weights if item != path])
        shutil.copy(reference.folder / other, folder / path)
        moment = f"{path} is {other}"
    return recovered(Outcome("replace", job.rule, moment), reference, job, folder, (maker, path))


def replaceable(reference: Reference, job: Job) -> list[tuple[Job, str]]:
    """Return the files with a shape that a job reads, with their makers."""
    files = reference.source_files(job, DAMAGED)
    kinds = ("/pseudo_labels/", "/labels/", "/predictions/", "/maps/", "model.safetensors")
    return [
        (maker, path)
        for maker, path in files
        if any(kind in path for kind in kinds) and path.endswith((".safetensors", ".png"))
    ]


def recovered(
    outcome: Outcome, reference: Reference, job: Job, folder: Folder, victim: tuple[Job, str]
) -> Outcome:
    """Run, delete what error lines name, and run again, as a user would."""
    maker, path = victim
    first = last = folder.run()
    if not first.code:
        faults = list(check_end(reference, folder, first))
        outcome.faults += [f"unnoticed: {fault}" for fault in faults]
        outcome.notes += [] if faults else ["harmless"]
        return outcome
    outcome.faults += check_words(first)
    outputs = [output for output in maker.outputs if path.startswith(output)]
    if not any(name in line for line in first.errors() for name in (path, *outputs)):
        outcome.faults.append("not named")
    started = set(first.jobs().values())
    makers = {maker, job}
    for _attempt in range(3):
        named = named_results(folder, last)
        if not last.code or not named:
            break
        for name in sorted(named):
            delete(folder / name)
        outcome.notes.append(f"deleted {', '.join(sorted(named))}")
        makers |= {reference.makers[name] for name in named if name in reference.makers}
        last = folder.run()
        started |= set(last.jobs().values())
    outcome.again = len(started)
    outcome.faults += check_end(reference, folder, last)
    if beyond := {other.rule for other in started - reference.after(*makers)}:
        outcome.faults.append(f"ran again: {', '.join(sorted(beyond))}")
    return outcome


def named_results(folder: Folder, run: Run) -> set[str]:
    """Return the results that error lines are about, of those that are there.

    A line that starts with a path is about that file; of another, every path but a log counts.
    """
    found: set[str] = set()
    for line in run.errors():
        message = line.partition("ERROR: ")[2]
        names = [word.rstrip(".") for word in re.findall(r"results/[\w+./-]+", message)]
        found |= set(names[:1] if message.startswith("results/") else names)
    return {name for name in found if "/logs/" not in name and (folder / name).exists()}


def check_words(run: Run) -> Iterator[str]:
    """Return whether a stage ended with a traceback instead of a line."""
    if f'File "{REPOSITORY}/pipeline/' in run.text:
        last = [line for line in run.errors() if "the full log is" in line]
        yield f"a traceback: {(last or run.errors() or ['?'])[0]}"


def delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# Rounds ---------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Reference, Job, Path, random.Random], Outcome]] = {
    function.__name__: function for function in (kill, restart, disk, corrupt, replace)
}


def possible(reference: Reference, kind: str) -> list[Job]:
    """Return the jobs that a disturbance can hit, in a fixed order."""
    jobs = sorted(reference.jobs, key=lambda job: job.outputs)
    if kind == "replace":
        return [job for job in jobs if replaceable(reference, job)]
    if kind == "corrupt":
        return [job for job in jobs if reference.source_files(job, DAMAGED)]
    return jobs


def play(
    kind: str, reference: Reference, place: Path, seed: str, wanted: Iterable[str] = ()
) -> Outcome:
    """Play one round in a place: a job is disturbed, of the wanted rules if it can be."""
    rng = random.Random(seed)
    jobs = possible(reference, kind)
    rules = {job.rule for job in jobs}
    rule = rng.choice(sorted(rules & set(wanted) or rules))
    job = rng.choice([job for job in jobs if job.rule == rule])
    return KINDS[kind](reference, job, place, rng)


def main() -> int:
    """Play the rounds asked for, and print what survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5, help="disturbances, of the kinds in turn")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which of them")
    parser.add_argument("--folder", type=Path, help="where to work, and to find a reference again")
    parser.add_argument("--rules", default="", help="rules to hit, where the kind can: RULE,...")
    asked = parser.parse_args()
    kinds = asked.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}: expected some of {[*KINDS]}")
    home = (asked.folder or Path(tempfile.mkdtemp(prefix="chaos-"))).resolve()
    reference = Reference(Folder(home / "reference", CONFIG))
    print("| kind | stage | moment | jobs run again | verdict | notes |\n|---|---|---|---|---|---|")
    failed = 0
    for number in range(asked.rounds):
        kind = kinds[number % len(kinds)]
        place = home / f"round-{asked.seed}-{number}-{kind}"
        try:
            outcome = play(kind, reference, place, f"{asked.seed}/{number}", asked.rules.split(","))
        except UnavailableError as error:
            print(f"| {kind} | | | | skipped | {error} |", flush=True)
            continue
        failed += bool(outcome.faults)
        print(outcome.row(), flush=True)
        if not outcome.faults:
            shutil.rmtree(place)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
