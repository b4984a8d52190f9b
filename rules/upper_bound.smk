# The upper bound: the segmentation network trained on the ground-truth masks of train, to compare
# with. No other training reads masks. Its predictions exist for val only, and nothing is labeled
# with them. No job of these rules exists unless segmentation.trained_on lists ground_truth.


rule train_upper_bound:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        pretrained=job.segmentation_weights,
    output:
        weights="<run>/segmentation/ground_truth/model.safetensors",
        history="<run>/segmentation/ground_truth/history.csv",
    log:
        "<run>/logs/train_upper_bound.log",
    benchmark:
        "<run>/benchmarks/train_upper_bound.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "train_upper_bound"),
    params:
        settings=job.segmentation_training,
        seed=job.seed,
        files=weights_digest(job.segmentation_weights),
        code=code_digest("train_upper_bound"),
    script:
        "../pipeline/stages/train_upper_bound.py"


use rule predict_masks as predict_upper_bound with:
    input:
        manifest=job.manifest,
        classes="<experiment>/dataset/classes.json",
        weights="<run>/segmentation/ground_truth/model.safetensors",
    output:
        predictions=directory("<run>/predictions/ground_truth/{split}/{shard}"),
    log:
        "<run>/logs/predict_upper_bound/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/predict_upper_bound/{split}/{shard}.tsv"
    wildcard_constraints:
        split="val",
    resources:
        **needs(CONFIG, "predict_upper_bound"),


use rule predict_soft_masks as predict_soft_upper_bound with:
    input:
        manifest=job.manifest,
        classes="<experiment>/dataset/classes.json",
        weights="<run>/segmentation/ground_truth/model.safetensors",
    output:
        soft_predictions=directory(
            "<run>/soft_predictions/ground_truth/{split}/{shard}"
        ),
    log:
        "<run>/logs/predict_soft_upper_bound/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/predict_soft_upper_bound/{split}/{shard}.tsv"
    wildcard_constraints:
        split="val",
    resources:
        **needs(CONFIG, "predict_soft_upper_bound"),


use rule evaluate_labels as evaluate_upper_bound with:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        labels=job.upper_bound_predictions,
        threshold=[],
        corrected=[],
    output:
        scores="<run>/scores/predictions/ground_truth/{split}.json",
        images="<run>/scores/predictions/ground_truth/{split}.csv",
        counts="<run>/scores/predictions/ground_truth/{split}.counts.safetensors",
    log:
        "<run>/logs/evaluate_upper_bound/{split}.log",
    benchmark:
        "<run>/benchmarks/evaluate_upper_bound/{split}.tsv"
    wildcard_constraints:
        split="val",
    params:
        kind="predictions",
        method="ground_truth",
        settings=settings.upper_bound_settings(CONFIG),
        code=code_digest("evaluate"),


use rule export_labels as export_upper_bound with:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        labels=job.exported_upper_bound,
        soft=job.exported_upper_bound_probabilities,
        scores=job.exported_upper_bound_scores,
        left_out=review.left_out(plan),
        corrected=[],
    output:
        export=directory("<run>/export/{format}/predictions/ground_truth"),
    log:
        "<run>/logs/export_upper_bound/{format}.log",
    benchmark:
        "<run>/benchmarks/export_upper_bound/{format}.tsv"
    params:
        kind="predictions",
        method="ground_truth",
        splits=["val"],
        settings=settings.upper_bound_settings(CONFIG),
        options=job.export_options,
        place=inputs.place_of_links(plan),
        code=code_digest("export_labels"),
