"""One stage for each rule of the workflow: a keyword-only function in a file of its name.

These arguments mean the same in every stage whose docstring refers to them here:

manifest, classes : Path
    Images with their image-level labels, and the class names.
split : str
    ``"train"``, ``"val"`` or, where a network is applied to further images, a folder's name.
shard, shards : int
    Number of this shard, from 0, and number of shards.
seed : int
    Seed of all random choices.
precision : {"32-true", "bf16-mixed", "16-mixed"}
    Floating-point precision of the forward and backward passes. 16-mixed needs a GPU.
threads : int
    Number of CPU threads.
gpu : int
    Number of GPUs. Only a training uses more than one. Without a GPU, or with 0, the stage
    computes on the CPU.
code : str
    Digest of the stage's code. A checkpoint of other code is not used.
"""
