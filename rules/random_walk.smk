# Learned affinities, and the random walk over them.


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
        foreground=lambda w: AFFINITY["confident_labels"]["foreground"],
        background=lambda w: AFFINITY["confident_labels"]["background"],
        crf=lambda w: AFFINITY["confident_labels"]["crf"],
        code=code_digest("make_affinity_labels"),
    script:
        "../pipeline/stages/make_affinity_labels.py"


rule train_affinity:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        classifier="<run>/classifiers/{classifier}/model.safetensors",
        labels=lambda w: plan.at(w).affinity_shards(f"{w.classifier}/{w.attribution}"),
        pretrained=lambda w: sources.affinity_pretrained(CONFIG, w.classifier),
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
        settings=described.affinity_training(CONFIG) if AFFINITY else None,
        seed=lambda w: plan.at(w).seed,
        files=lambda w: sources.state_of_weights(
            sources.affinity_pretrained(CONFIG, w.classifier)
        ),
        code=code_digest("train_affinity"),
    script:
        "../pipeline/stages/train_affinity.py"


rule propagate_maps:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split, w.classifier),
        classes="<experiment>/dataset/classes.json",
        source="<run>/maps/{classifier}/{attribution}/{split}/{shard}.safetensors",
        weights="<run>/affinity/{classifier}/{attribution}/model.safetensors",
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
        settings=lambda w: RANDOM_WALKS[w.walk],
        precision=lambda w: AFFINITY["precision"],
        code=code_digest("propagate_maps"),
    script:
        "../pipeline/stages/propagate_maps.py"
