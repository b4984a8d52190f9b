# Classifiers: pretrained weights, training, linear probes, class scores.


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
        pretrained=lambda w: sources.classifier_weights(plan.at(w), w.classifier),
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
        settings=lambda w: CLASSIFIERS[w.classifier],
        seed=lambda w: plan.at(w).seed,
        files=lambda w: sources.state_of_weights(
            sources.classifier_weights(plan.at(w), w.classifier)
        ),
        code=code_digest("train_classifier"),
    script:
        "../pipeline/stages/train_classifier.py"


rule fit_probe:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        pretrained=lambda w: sources.pretrained(CONFIG, CLASSIFIERS[w.classifier]),
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
        settings=lambda w: CLASSIFIERS[w.classifier],
        seed=lambda w: plan.at(w).seed,
        files=lambda w: sources.state_of_weights(
            sources.pretrained(CONFIG, CLASSIFIERS[w.classifier])
        ),
        code=code_digest("fit_probe"),
    script:
        "../pipeline/stages/fit_probe.py"


rule classify:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split),
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
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("classify"),
    script:
        "../pipeline/stages/classify.py"
