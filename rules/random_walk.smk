# Learned affinities, and the random walk over them or over affinities of frozen features.


rule make_affinity_labels:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        maps="<run>/maps/{classifier}/{attribution}/train/{shard}.safetensors",
    output:
        labels=directory("<run>/affinity/{classifier}/{attribution}/labels/{shard}"),
    log:
        "<run>/logs/make_affinity_labels/{classifier}/{attribution}/{shard}.log",
    benchmark:
        "<run>/benchmarks/make_affinity_labels/{classifier}/{attribution}/{shard}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "make_affinity_labels"),
    params:
        foreground=lookup(
            "affinity/confident_labels/foreground", within=CONFIG, default=None
        ),
        background=lookup(
            "affinity/confident_labels/background", within=CONFIG, default=None
        ),
        crf=lookup("affinity/confident_labels/crf", within=CONFIG, default=None),
        code=code_digest("make_affinity_labels"),
    script:
        "../pipeline/stages/make_affinity_labels.py"


rule train_affinity:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        classifier="<run>/classifiers/{classifier}/model.safetensors",
        labels=job.affinity_labels,
        pretrained=job.affinity_weights,
    output:
        weights="<run>/affinity/{classifier}/{attribution}/model.safetensors",
        history="<run>/affinity/{classifier}/{attribution}/history.csv",
    log:
        "<run>/logs/train_affinity/{classifier}/{attribution}.log",
    benchmark:
        "<run>/benchmarks/train_affinity/{classifier}/{attribution}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "train_affinity"),
    params:
        settings=job.affinity_training,
        seed=job.seed,
        files=weights_digest(job.affinity_weights),
        code=code_digest("train_affinity"),
    script:
        "../pipeline/stages/train_affinity.py"


rule propagate_maps:
    input:
        manifest=job.labeled_manifest,
        classes="<experiment>/dataset/classes.json",
        source="<run>/maps/{classifier}/{attribution}/{split}/{shard}.safetensors",
        weights=job.walk_weights,
        pretrained=job.walk_pretrained,
    output:
        maps="<run>/maps/{classifier}/{attribution}+{walk}/{split}/{shard}.safetensors",
    log:
        "<run>/logs/propagate_maps/{classifier}/{attribution}+{walk}/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/propagate_maps/{classifier}/{attribution}+{walk}/{split}/{shard}.tsv"
    conda:
        "../envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "propagate_maps"),
    params:
        settings=lookup("{walk}", within=CONFIG["random_walks"]),
        affinity=job.feature_affinity,
        precision=lookup("affinity/precision", within=CONFIG, default=None),
        files=weights_digest(job.walk_pretrained),
        code=code_digest("propagate_maps"),
    script:
        "../pipeline/stages/propagate_maps.py"
