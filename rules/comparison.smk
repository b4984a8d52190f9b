# Comparison of attribution methods: localization, faithfulness, and the table of both.


rule localize:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        boxes="<experiment>/dataset/boxes.csv",
        class_scores=job.class_scores,
        maps=job.maps,
    output:
        scores="<run>/scores/localization/{classifier}/{maps}/{split}.json",
        pairs="<run>/scores/localization/{classifier}/{maps}/{split}.csv",
    log:
        "<run>/logs/localize/{classifier}/{maps}/{split}.log",
    benchmark:
        "<run>/benchmarks/localize/{classifier}/{maps}/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        settings=lookup("comparison/localization", within=CONFIG, default=None),
        method=maps_path,
        code=code_digest("localize"),
    script:
        "../pipeline/stages/localize.py"


rule evaluate_faithfulness:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        weights="<run>/classifiers/{classifier}/model.safetensors",
        maps=job.maps,
    output:
        scores="<run>/scores/faithfulness/{classifier}/{maps}/{split}.json",
        pairs="<run>/scores/faithfulness/{classifier}/{maps}/{split}.csv",
    log:
        "<run>/logs/evaluate_faithfulness/{classifier}/{maps}/{split}.log",
    benchmark:
        "<run>/benchmarks/evaluate_faithfulness/{classifier}/{maps}/{split}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "evaluate_faithfulness"),
    params:
        settings=lookup("comparison/faithfulness", within=CONFIG, default=None),
        max_size=lookup("comparison/max_size", within=CONFIG, default=None),
        method=maps_path,
        precision=lookup("{classifier}/precision", within=CONFIG["classifiers"]),
        code=code_digest("evaluate_faithfulness"),
    script:
        "../pipeline/stages/evaluate_faithfulness.py"


rule compare_attributions:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        sweeps=plan.compared_scores("maps"),
        localization=plan.compared_scores("localization"),
        faithfulness=plan.compared_scores("faithfulness"),
        pairs=plan.compared_scores("faithfulness", "csv"),
        times=jobs.compared_times(plan),
    output:
        table="<run>/comparison.csv",
    log:
        "<run>/logs/compare_attributions.log",
    benchmark:
        "<run>/benchmarks/compare_attributions.tsv"
    conda:
        "../envs/pipeline.yaml"
    params:
        jobs=jobs.compared_positions(plan),
        split=lookup("comparison/split", within=CONFIG, default=None),
        code=code_digest("compare_attributions"),
    script:
        "../pipeline/stages/compare_attributions.py"
