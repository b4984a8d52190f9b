# Scores against the ground truth.


rule sweep_thresholds:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        maps=job.maps,
        label_free="<run>/thresholds/{classifier}/{maps}/{split}.json",
        corrected=job.learned_corrections,
    output:
        scores="<run>/scores/maps/{classifier}/{maps}/{split}.json",
        counts="<run>/scores/maps/{classifier}/{maps}/{split}.counts.safetensors",
    log:
        "<run>/logs/sweep_thresholds/{classifier}/{maps}/{split}.log",
    benchmark:
        "<run>/benchmarks/sweep_thresholds/{classifier}/{maps}/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        method=maps_path,
        thresholds=CONFIG["evaluation"]["thresholds"],
        rule=CONFIG["evaluation"]["label_free_rule"],
        settings=job.map_settings,
        code=code_digest("sweep_thresholds"),
    script:
        "../pipeline/stages/sweep_thresholds.py"


rule evaluate_labels:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        labels=job.labels,
        threshold=job.threshold,
        corrected=job.learned_corrections,
    output:
        scores="<run>/scores/pseudo_labels/<method>/{split}.json",
        images="<run>/scores/pseudo_labels/<method>/{split}.csv",
        counts="<run>/scores/pseudo_labels/<method>/{split}.counts.safetensors",
    log:
        "<run>/logs/evaluate_labels/<method>/{split}.log",
    benchmark:
        "<run>/benchmarks/evaluate_labels/<method>/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        kind="pseudo_labels",
        method=labels_path,
        settings=job.label_settings,
        code=code_digest("evaluate"),
    script:
        "../pipeline/stages/evaluate.py"


use rule evaluate_labels as evaluate_predictions with:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        labels=job.predictions,
        threshold=[],
        corrected=corrected.table(plan),
    output:
        scores="<run>/scores/predictions/<method>/{split}.json",
        images="<run>/scores/predictions/<method>/{split}.csv",
        counts="<run>/scores/predictions/<method>/{split}.counts.safetensors",
    log:
        "<run>/logs/evaluate_predictions/<method>/{split}.log",
    benchmark:
        "<run>/benchmarks/evaluate_predictions/<method>/{split}.tsv"
    params:
        kind="predictions",
        method=labels_path,
        settings=settings.prediction_settings(CONFIG),
        code=code_digest("evaluate"),


# The distance of pseudo-labels to the masks that people corrected, instead of the ground truth.
use rule evaluate_labels as evaluate_corrections with:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/corrected.csv",
        labels=job.labels,
        threshold=job.threshold,
        corrected=job.learned_corrections,
    output:
        scores="<run>/scores/corrections/<method>/{split}.json",
        images="<run>/scores/corrections/<method>/{split}.csv",
        counts="<run>/scores/corrections/<method>/{split}.counts.safetensors",
    log:
        "<run>/logs/evaluate_corrections/<method>/{split}.log",
    benchmark:
        "<run>/benchmarks/evaluate_corrections/<method>/{split}.tsv"
    wildcard_constraints:
        split="train",
    params:
        settings=job.correction_settings,


rule evaluate_boxes:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        boxes="<experiment>/dataset/boxes.csv",
        labels=job.labels,
    output:
        scores="<run>/scores/boxes/<method>/{split}.json",
    log:
        "<run>/logs/evaluate_boxes/<method>/{split}.log",
    benchmark:
        "<run>/benchmarks/evaluate_boxes/<method>/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        method=labels_path,
        code=code_digest("evaluate_boxes"),
    script:
        "../pipeline/stages/evaluate_boxes.py"
