# Classifiers: pretrained weights, training, linear probes, class scores, and images of what they
# have learned.


rule download_weights:
    output:
        weights="<downloads>/weights/{backbone}.safetensors",
    log:
        "<experiment>/logs/download_weights/{backbone}.log",
    conda:
        "../envs/pipeline.yaml"
    script:
        "../pipeline/stages/download_weights.py"


rule train_classifier:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        pretrained=job.classifier_weights,
    output:
        weights="<run>/classifiers/{classifier}/model.safetensors",
        history="<run>/classifiers/{classifier}/history.csv",
    log:
        "<run>/logs/train_classifier/{classifier}.log",
    benchmark:
        "<run>/benchmarks/train_classifier/{classifier}.tsv"
    wildcard_constraints:
        classifier=plan.classifiers_of("network"),
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "train_classifier"),
    params:
        settings=lookup("{classifier}", within=CONFIG["classifiers"]),
        seed=job.seed,
        files=weights_digest(job.classifier_weights),
        code=code_digest("train_classifier"),
    script:
        "../pipeline/stages/train_classifier.py"


# The features of a linear probe with `views_of`. They are kept: without them, a change of the maps
# would make the probe again, and everything after it.
rule extract_features:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        pretrained=job.probe_weights,
    output:
        features=directory("<run>/features/{classifier}/{shard}"),
    log:
        "<run>/logs/extract_features/{classifier}/{shard}.log",
    benchmark:
        "<run>/benchmarks/extract_features/{classifier}/{shard}.tsv"
    wildcard_constraints:
        classifier=plan.probes_with_views(),
    conda:
        "../envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "extract_features"),
    params:
        settings=job.backbone_of_probe,
        views=job.views_of_probe,
        shards=CONFIG["shards"],
        seed=job.seed,
        files=weights_digest(job.probe_weights),
        code=code_digest("extract_features"),
    script:
        "../pipeline/stages/extract_features.py"


rule fit_probe:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        pretrained=job.probe_weights,
        features=job.probe_features,
    output:
        weights="<run>/classifiers/{classifier}/model.safetensors",
    log:
        "<run>/logs/fit_probe/{classifier}.log",
    benchmark:
        "<run>/benchmarks/fit_probe/{classifier}.tsv"
    wildcard_constraints:
        classifier=plan.classifiers_of("linear-probe"),
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "fit_probe"),
    params:
        settings=lookup("{classifier}", within=CONFIG["classifiers"]),
        scales=job.scales_of_probe,
        seed=job.seed,
        files=weights_digest(job.probe_weights),
        code=code_digest("fit_probe"),
    script:
        "../pipeline/stages/fit_probe.py"


rule classify:
    input:
        manifest=job.manifest,
        classes="<experiment>/dataset/classes.json",
        weights="<run>/classifiers/{classifier}/model.safetensors",
    output:
        class_scores="<run>/class_scores/{classifier}/{split}/{shard}.csv",
    log:
        "<run>/logs/classify/{classifier}/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/classify/{classifier}/{split}/{shard}.tsv"
    conda:
        "../envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "classify"),
    params:
        max_size=CONFIG["classification"]["max_size"],
        shards=CONFIG["shards"],
        precision=lookup("{classifier}/precision", within=CONFIG["classifiers"]),
        code=code_digest("classify"),
    script:
        "../pipeline/stages/classify.py"


# Labels that contradict a classifier. On train, the scores of a linear probe are out-of-fold, and
# those of a network are its own. Neither was trained on val.
rule find_label_errors:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        pretrained=job.judging_weights,
        features=job.probe_features,
        class_scores=job.judging_scores,
        held_out_scores=job.held_out_scores,
    output:
        errors="<run>/label_errors/{classifier}.csv",
    log:
        "<run>/logs/find_label_errors/{classifier}.log",
    benchmark:
        "<run>/benchmarks/find_label_errors/{classifier}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "find_label_errors"),
    params:
        settings=lookup("{classifier}", within=CONFIG["classifiers"]),
        scales=job.scales_of_probe,
        folds=lookup("label_errors/folds", within=CONFIG, default=0),
        seed=job.seed,
        files=weights_digest(job.judging_weights),
        code=code_digest("find_label_errors"),
    script:
        "../pipeline/stages/find_label_errors.py"


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
        settings=CONFIG.get("class_models"),
        precision=settings.GRADIENT_PRECISION,
        seed=job.seed,
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
        settings=CONFIG.get("units"),
        precision=lookup("{classifier}/precision", within=CONFIG["classifiers"]),
        code=code_digest("visualize_units"),
    script:
        "../pipeline/stages/visualize_units.py"
