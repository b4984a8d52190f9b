# Attribution methods side by side, and what classifiers have learned.


rule visualize_classes:
    input:
        classes="<experiment>/dataset/classes.json",
        weights="<run>/classifiers/{classifier}/model.safetensors",
    output:
        grid="<run>/class_models/{classifier}.png",
    log:
        "<run>/logs/visualize_classes/{classifier}.log",
    benchmark:
        "<run>/benchmarks/visualize_classes/{classifier}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "visualize_classes"),
    params:
        settings=CLASS_MODELS,
        precision=described.GRADIENT_PRECISION,
        seed=lambda w: plan.at(w).seed,
        code=code_digest("visualize_classes"),
    script:
        "../pipeline/stages/visualize_classes.py"


rule visualize_units:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        weights="<run>/classifiers/{classifier}/model.safetensors",
    output:
        grid="<run>/units/{classifier}.png",
    log:
        "<run>/logs/visualize_units/{classifier}.log",
    benchmark:
        "<run>/benchmarks/visualize_units/{classifier}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "visualize_units"),
    params:
        settings=UNITS,
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("visualize_units"),
    script:
        "../pipeline/stages/visualize_units.py"


rule localize:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        boxes="<experiment>/dataset/boxes.csv",
        class_scores=lambda w: plan.at(w).class_scores(w.classifier, w.split),
        maps=lambda w: plan.at(w).map_shards(maps_path(w), w.split),
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
        settings=lambda w: COMPARISON["localization"],
        method=maps_path,
        code=code_digest("localize"),
    script:
        "../pipeline/stages/localize.py"


rule evaluate_faithfulness:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        weights="<run>/classifiers/{classifier}/model.safetensors",
        maps=lambda w: plan.at(w).map_shards(maps_path(w), w.split),
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
        settings=lambda w: COMPARISON["faithfulness"],
        max_size=lambda w: COMPARISON["max_size"],
        method=maps_path,
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
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
        methods=plan.compared,
        split=lambda w: COMPARISON["split"],
        code=code_digest("compare_attributions"),
    script:
        "../pipeline/stages/compare_attributions.py"
