# Quality of pseudo-labels, estimated without ground truth.


rule compare_labels:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        labels=job.labels_of_all_methods,
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
        maps=job.maps_before_walk,
        class_scores=job.class_scores,
        figures=job.label_figures,
        agreement=job.label_agreement,
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
        image_scores=job.label_image_scores,
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
