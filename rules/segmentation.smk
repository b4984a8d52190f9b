# The segmentation network and its predictions.


rule train_segmentation:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        labels=lambda w: plan.at(w).label_shards(labels_path(w)),
        pretrained=lambda w: sources.pretrained(CONFIG, SEGMENTATION),
    output:
        weights="<run>/segmentation/<method>/model.safetensors",
        history="<run>/segmentation/<method>/history.csv",
    log:
        "<run>/logs/train_segmentation/<method>.log",
    benchmark:
        "<run>/benchmarks/train_segmentation/<method>.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "train_segmentation"),
    params:
        settings=lambda w: described.segmentation_training(CONFIG),
        seed=lambda w: plan.at(w).seed,
        files=lambda w: sources.state_of_weights(
            sources.pretrained(CONFIG, SEGMENTATION)
        ),
        code=code_digest("train_segmentation"),
    script:
        "../pipeline/stages/train_segmentation.py"


rule predict_masks:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split),
        classes="<experiment>/dataset/classes.json",
        weights="<run>/segmentation/<method>/model.safetensors",
    output:
        predictions=directory("<run>/predictions/<method>/{split}/{shard}"),
    log:
        "<run>/logs/predict_masks/<method>/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/predict_masks/<method>/{split}/{shard}.tsv"
    conda:
        "../envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "predict_masks"),
    params:
        settings=lambda w: PREDICTION,
        shards=CONFIG["shards"],
        precision=lambda w: SEGMENTATION["precision"],
        code=code_digest("predict_masks"),
    script:
        "../pipeline/stages/predict_masks.py"


rule predict_soft_masks:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split),
        classes="<experiment>/dataset/classes.json",
        weights="<run>/segmentation/<method>/model.safetensors",
    output:
        soft_predictions=directory("<run>/soft_predictions/<method>/{split}/{shard}"),
    log:
        "<run>/logs/predict_soft_masks/<method>/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/predict_soft_masks/<method>/{split}/{shard}.tsv"
    conda:
        "../envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "predict_soft_masks"),
    params:
        settings=lambda w: PREDICTION,
        shards=CONFIG["shards"],
        precision=lambda w: SEGMENTATION["precision"],
        code=code_digest("predict_soft_masks"),
    script:
        "../pipeline/stages/predict_soft_masks.py"
