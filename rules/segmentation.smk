# The segmentation network and its predictions.


rule train_segmentation:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        labels=job.training_labels,
        left_out=review.left_out(plan),
        corrected=corrected.table(plan),
        pretrained=job.segmentation_weights,
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
        settings=job.segmentation_training,
        seed=job.seed,
        files=weights_digest(job.segmentation_weights),
        code=code_digest("train_segmentation"),
    script:
        "../pipeline/stages/train_segmentation.py"


rule predict_masks:
    input:
        manifest=job.manifest,
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
        settings=CONFIG["prediction"],
        shards=CONFIG["shards"],
        precision=lookup("segmentation/precision", within=CONFIG, default=None),
        code=code_digest("predict_masks"),
    script:
        "../pipeline/stages/predict_masks.py"


rule predict_soft_masks:
    input:
        manifest=job.manifest,
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
        settings=CONFIG["prediction"],
        shards=CONFIG["shards"],
        precision=lookup("segmentation/precision", within=CONFIG, default=None),
        code=code_digest("predict_soft_masks"),
    script:
        "../pipeline/stages/predict_soft_masks.py"
