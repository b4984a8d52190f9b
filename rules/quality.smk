# What is known of pseudo-labels without a ground truth.


rule compare_labels:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        labels=lambda w: [
            shard
            for method in plan.labels
            for shard in plan.at(w).label_shards(method, w.split)
        ],
    output:
        agreement="<run>/quality/agreement/{split}.csv",
    log:
        "<run>/logs/compare_labels/{split}.log",
    benchmark:
        "<run>/benchmarks/compare_labels/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        methods=plan.labels,
        code=code_digest("compare_labels"),
    script:
        "../pipeline/stages/compare_labels.py"


rule assess_labels:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        maps=lambda w: plan.at(w).map_shards(maps_path(w).split("+")[0], w.split),
        class_scores=lambda w: plan.at(w).class_scores(w.classifier, w.split),
        figures=lambda w: [
            f"{folder}.csv"
            for folder in plan.at(w).label_shards(labels_path(w), w.split)
        ],
        agreement=lambda w: plan.at(w).label_agreement(w.split),
    output:
        quality="<run>/quality/<method>/{split}.csv",
    log:
        "<run>/logs/assess_labels/<method>/{split}.log",
    benchmark:
        "<run>/benchmarks/assess_labels/<method>/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    params:
        method=labels_path,
        code=code_digest("assess_labels"),
    script:
        "../pipeline/stages/assess_labels.py"


rule summarize_quality:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        quality="<run>/quality/<method>/{split}.csv",
        image_scores=lambda w: plan.at(w).label_image_scores(labels_path(w), w.split),
    output:
        summary="<run>/quality/<method>/{split}.json",
    log:
        "<run>/logs/summarize_quality/<method>/{split}.log",
    benchmark:
        "<run>/benchmarks/summarize_quality/<method>/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    params:
        method=labels_path,
        code=code_digest("summarize_quality"),
    script:
        "../pipeline/stages/summarize_quality.py"
