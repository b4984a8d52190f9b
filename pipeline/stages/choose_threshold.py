"""Choose background thresholds for class maps without ground truth."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.arrays import ClassMaps, MapShard
from pipeline.io.tables import write_json
from pipeline.refinement.thresholds import choose_thresholds
from pipeline.runtime.progress import progress
from pipeline.runtime.stage import run_stage

if TYPE_CHECKING:
    snakemake: Any


def choose_threshold(*, maps: list[Path], method: str, thresholds: Path) -> None:
    """Write the threshold of every label-free rule.

    Parameters
    ----------
    maps : list of Path
        Map shards of a split, all of them.
    method : str
        CLASSIFIER/MAPS.
    thresholds : Path
        Output (JSON): ``method``, and ``thresholds`` with a number for each rule.

    Raises
    ------
    UserError
        If no image has a label, or the maps of all images are 0 everywhere.
    """
    shards = list(map(MapShard, maps))
    count = sum(len(shard.ids) for shard in shards)
    items: Iterator[ClassMaps] = (item for shard in shards for _, item in shard)
    every = progress(items, total=count, what=f"values of {method}")
    write_json(thresholds, {"method": method, "thresholds": choose_thresholds(every)})


if __name__ == "__main__":
    run_stage(choose_threshold, snakemake)
