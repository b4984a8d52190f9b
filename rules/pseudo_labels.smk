# From maps to pseudo-labels: threshold, dense CRF, graph cut, regions.


rule choose_threshold:
    input:
        maps=job.maps,
    output:
        thresholds="<run>/thresholds/{classifier}/{maps}/{split}.json",
    log:
        "<run>/logs/choose_threshold/{classifier}/{maps}/{split}.log",
    benchmark:
        "<run>/benchmarks/choose_threshold/{classifier}/{maps}/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    params:
        method=maps_path,
        code=code_digest("choose_threshold"),
    script:
        "../pipeline/stages/choose_threshold.py"


rule make_labels:
    input:
        manifest=job.labeled_manifest,
        classes="<experiment>/dataset/classes.json",
        maps="<run>/maps/{classifier}/{maps}/{split}/{shard}.safetensors",
        threshold=job.threshold,
        regions=job.regions,
    output:
        figures="<run>/pseudo_labels/<method>/{split}/{shard}.csv",
        labels=directory("<run>/pseudo_labels/<method>/{split}/{shard}"),
    log:
        "<run>/logs/make_labels/<method>/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/make_labels/<method>/{split}/{shard}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "make_labels"),
    params:
        background=job.background,
        crf=lookup("{refinement}/crf", within=CONFIG["refinements"]),
        graph_cut=lookup("{refinement}/graph_cut", within=CONFIG["refinements"]),
        voting=lookup(
            "{refinement}/regions", within=CONFIG["refinements"], default=None
        ),
        uncertain_below=lookup(
            "{refinement}/uncertain_below", within=CONFIG["refinements"]
        ),
        code=code_digest("make_labels"),
    script:
        "../pipeline/stages/make_labels.py"


rule make_soft_labels:
    input:
        manifest=job.labeled_manifest,
        classes="<experiment>/dataset/classes.json",
        maps="<run>/maps/{classifier}/{maps}/{split}/{shard}.safetensors",
        threshold=job.threshold,
        regions=job.regions,
    output:
        soft_labels=directory("<run>/soft_pseudo_labels/<method>/{split}/{shard}"),
    log:
        "<run>/logs/make_soft_labels/<method>/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/make_soft_labels/<method>/{split}/{shard}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "make_soft_labels"),
    params:
        background=job.background,
        crf=lookup("{refinement}/crf", within=CONFIG["refinements"]),
        graph_cut=lookup("{refinement}/graph_cut", within=CONFIG["refinements"]),
        voting=lookup(
            "{refinement}/regions", within=CONFIG["refinements"], default=None
        ),
        code=code_digest("make_soft_labels"),
    script:
        "../pipeline/stages/make_soft_labels.py"
