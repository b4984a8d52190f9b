import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

sys.path.insert(0, workflow.basedir)

from pipeline.config import resolve
from pipeline.digest import code_digest
from pipeline.errors import UserError
from pipeline.workflow import Plan

min_version("9.14")


# A configuration that names a dataset stands on its own; without one the demo runs.
if "dataset" not in config:

    configfile: f"{workflow.basedir}/config.yaml"


try:
    plan = Plan(resolve(config))
except UserError as error:
    raise WorkflowError(error)
if missing := list(plan.missing()):
    raise WorkflowError("; ".join(missing))

EXP = plan.root
SEED = plan.config["seed"]
CLASSIFIERS = plan.config["classifiers"]
ATTRIBUTIONS = plan.config["attributions"]
AFFINITY = plan.config.get("affinity")
RANDOM_WALKS = plan.config["random_walks"]
CLASS_MODELS = plan.config.get("class_models")
UNITS = plan.config.get("units")
COMPARISON = plan.config.get("comparison")
REFINEMENTS = plan.config["refinements"]
SEGMENTER = plan.config.get("segmenter")
PREDICTION = plan.config.get("prediction")


wildcard_constraints:
    classifier="[^/]+",
    attribution="[^/+]+",
    walk="[^/+]+",
    maps="[^/]+",
    refinement="[^/]+",
    split="train|val",
    shard=r"\d+",


localrules:
    all,


rule all:
    input:
        f"{EXP}/report.html",


rule generate_demo:
    output:
        demo=directory(f"{EXP}/demo"),
    log:
        f"{EXP}/logs/generate_demo.log",
    benchmark:
        f"{EXP}/benchmarks/generate_demo.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        train=lookup("dataset/train", within=plan.config, default=0),
        val=lookup("dataset/val", within=plan.config, default=0),
        size=lookup("dataset/size", within=plan.config, default=0),
        seed=SEED,
        code=code_digest("generate_demo"),
    script:
        "pipeline/stages/generate_demo.py"


rule prepare_dataset:
    input:
        sources=plan.dataset_sources(),
    output:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        masks=f"{EXP}/dataset/masks.csv",
        boxes=f"{EXP}/dataset/boxes.csv",
    log:
        f"{EXP}/logs/prepare_dataset.log",
    benchmark:
        f"{EXP}/benchmarks/prepare_dataset.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        dataset=plan.dataset(),
        seed=SEED,
        code=code_digest("prepare_dataset"),
    script:
        "pipeline/stages/prepare_dataset.py"


rule train_classifier:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        pretrained=lambda w: plan.pretrained(CLASSIFIERS[w.classifier]),
    output:
        weights=f"{EXP}/classifiers/{{classifier}}/model.safetensors",
        history=f"{EXP}/classifiers/{{classifier}}/history.csv",
    log:
        f"{EXP}/logs/train_classifier/{{classifier}}.log",
    benchmark:
        f"{EXP}/benchmarks/train_classifier/{{classifier}}.tsv"
    wildcard_constraints:
        classifier=plan.classifiers_of("network"),
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=lambda w: CLASSIFIERS[w.classifier],
        seed=SEED,
        code=code_digest("train_classifier"),
    script:
        "pipeline/stages/train_classifier.py"


rule fit_probe:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        pretrained=lambda w: plan.pretrained(CLASSIFIERS[w.classifier]),
    output:
        weights=f"{EXP}/classifiers/{{classifier}}/model.safetensors",
    log:
        f"{EXP}/logs/fit_probe/{{classifier}}.log",
    benchmark:
        f"{EXP}/benchmarks/fit_probe/{{classifier}}.tsv"
    wildcard_constraints:
        classifier=plan.classifiers_of("linear-probe"),
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=lambda w: CLASSIFIERS[w.classifier],
        seed=SEED,
        code=code_digest("fit_probe"),
    script:
        "pipeline/stages/fit_probe.py"


rule make_maps:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        weights=f"{EXP}/classifiers/{{classifier}}/model.safetensors",
    output:
        maps=f"{EXP}/maps/{{classifier}}/{{attribution}}/{{split}}/{{shard}}.safetensors",
    log:
        f"{EXP}/logs/make_maps/{{classifier}}/{{attribution}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{EXP}/benchmarks/make_maps/{{classifier}}/{{attribution}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        settings=lambda w: ATTRIBUTIONS[w.attribution],
        shards=plan.config["shards"],
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("make_maps"),
    script:
        "pipeline/stages/make_maps.py"


rule make_affinity_labels:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        maps=f"{EXP}/maps/{{classifier}}/{{attribution}}/train/{{shard}}.safetensors",
    output:
        labels=directory(
            f"{EXP}/affinity/{{classifier}}/{{attribution}}/labels/{{shard}}"
        ),
    log:
        f"{EXP}/logs/make_affinity_labels/{{classifier}}/{{attribution}}/{{shard}}.log",
    benchmark:
        f"{EXP}/benchmarks/make_affinity_labels/{{classifier}}/{{attribution}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        foreground=lambda w: AFFINITY["labels"]["foreground"],
        background=lambda w: AFFINITY["labels"]["background"],
        crf=lambda w: AFFINITY["labels"]["crf"],
        code=code_digest("make_affinity_labels"),
    script:
        "pipeline/stages/make_affinity_labels.py"


rule train_affinity:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        classifier=f"{EXP}/classifiers/{{classifier}}/model.safetensors",
        labels=lambda w: plan.affinity_shards(f"{w.classifier}/{w.attribution}"),
        pretrained=lambda w: plan.affinity_pretrained(w.classifier),
    output:
        weights=f"{EXP}/affinity/{{classifier}}/{{attribution}}/model.safetensors",
        history=f"{EXP}/affinity/{{classifier}}/{{attribution}}/history.csv",
    log:
        f"{EXP}/logs/train_affinity/{{classifier}}/{{attribution}}.log",
    benchmark:
        f"{EXP}/benchmarks/train_affinity/{{classifier}}/{{attribution}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=lambda w: plan.affinity_training(),
        seed=SEED,
        code=code_digest("train_affinity"),
    script:
        "pipeline/stages/train_affinity.py"


rule propagate_maps:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        source=f"{EXP}/maps/{{classifier}}/{{attribution}}/{{split}}/{{shard}}.safetensors",
        weights=f"{EXP}/affinity/{{classifier}}/{{attribution}}/model.safetensors",
    output:
        maps=f"{EXP}/maps/{{classifier}}/{{attribution}}+{{walk}}/{{split}}/{{shard}}.safetensors",
    log:
        f"{EXP}/logs/propagate_maps/{{classifier}}/{{attribution}}+{{walk}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{EXP}/benchmarks/propagate_maps/{{classifier}}/{{attribution}}+{{walk}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        settings=lambda w: RANDOM_WALKS[w.walk],
        precision=lambda w: AFFINITY["precision"],
        code=code_digest("propagate_maps"),
    script:
        "pipeline/stages/propagate_maps.py"


rule make_labels:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        maps=f"{EXP}/maps/{{classifier}}/{{maps}}/{{split}}/{{shard}}.safetensors",
    output:
        labels=directory(
            f"{EXP}/labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}"
        ),
    log:
        f"{EXP}/logs/make_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{EXP}/benchmarks/make_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        background=lambda w: plan.background(w.refinement),
        crf=lambda w: REFINEMENTS[w.refinement]["crf"],
        graph_cut=lambda w: REFINEMENTS[w.refinement]["graph_cut"],
        unsure_below=lambda w: REFINEMENTS[w.refinement]["unsure_below"],
        code=code_digest("make_labels"),
    script:
        "pipeline/stages/make_labels.py"


rule train_segmenter:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        labels=lambda w: plan.label_shards(f"{w.classifier}/{w.maps}/{w.refinement}"),
        pretrained=lambda w: plan.pretrained(SEGMENTER),
    output:
        weights=f"{EXP}/segmenters/{{classifier}}/{{maps}}/{{refinement}}/model.safetensors",
        history=f"{EXP}/segmenters/{{classifier}}/{{maps}}/{{refinement}}/history.csv",
    log:
        f"{EXP}/logs/train_segmenter/{{classifier}}/{{maps}}/{{refinement}}.log",
    benchmark:
        f"{EXP}/benchmarks/train_segmenter/{{classifier}}/{{maps}}/{{refinement}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=lambda w: SEGMENTER,
        seed=SEED,
        code=code_digest("train_segmenter"),
    script:
        "pipeline/stages/train_segmenter.py"


rule predict_masks:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        weights=f"{EXP}/segmenters/{{classifier}}/{{maps}}/{{refinement}}/model.safetensors",
    output:
        predictions=directory(
            f"{EXP}/predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}"
        ),
    log:
        f"{EXP}/logs/predict_masks/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{EXP}/benchmarks/predict_masks/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        settings=lambda w: PREDICTION,
        shards=plan.config["shards"],
        precision=lambda w: SEGMENTER["precision"],
        code=code_digest("predict_masks"),
    script:
        "pipeline/stages/predict_masks.py"


rule sweep_thresholds:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        masks=f"{EXP}/dataset/masks.csv",
        maps=lambda w: plan.map_shards(f"{w.classifier}/{w.maps}", w.split),
    output:
        scores=f"{EXP}/scores/maps/{{classifier}}/{{maps}}/{{split}}.json",
    log:
        f"{EXP}/logs/sweep_thresholds/{{classifier}}/{{maps}}/{{split}}.log",
    benchmark:
        f"{EXP}/benchmarks/sweep_thresholds/{{classifier}}/{{maps}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        method=lambda w: f"{w.classifier}/{w.maps}",
        thresholds=plan.config["evaluation"]["thresholds"],
        settings=lambda w: plan.map_settings(w.maps),
        code=code_digest("sweep_thresholds"),
    script:
        "pipeline/stages/sweep_thresholds.py"


rule evaluate_labels:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        masks=f"{EXP}/dataset/masks.csv",
        labels=lambda w: plan.label_shards(f"{w.classifier}/{w.maps}/{w.refinement}"),
    output:
        scores=f"{EXP}/scores/labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.json",
        images=f"{EXP}/scores/labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.csv",
    log:
        f"{EXP}/logs/evaluate_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.log",
    benchmark:
        f"{EXP}/benchmarks/evaluate_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        kind="labels",
        method=lambda w: f"{w.classifier}/{w.maps}/{w.refinement}",
        settings=lambda w: plan.label_settings(w.maps, w.refinement),
        code=code_digest("evaluate"),
    script:
        "pipeline/stages/evaluate.py"


use rule evaluate_labels as evaluate_predictions with:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        masks=f"{EXP}/dataset/masks.csv",
        labels=lambda w: plan.prediction_shards(
            f"{w.classifier}/{w.maps}/{w.refinement}"
        ),
    output:
        scores=f"{EXP}/scores/predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.json",
        images=f"{EXP}/scores/predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.csv",
    log:
        f"{EXP}/logs/evaluate_predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.log",
    benchmark:
        f"{EXP}/benchmarks/evaluate_predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.tsv"
    params:
        kind="predictions",
        method=lambda w: f"{w.classifier}/{w.maps}/{w.refinement}",
        settings=plan.prediction_settings(),
        code=code_digest("evaluate"),


rule evaluate_boxes:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        masks=f"{EXP}/dataset/masks.csv",
        boxes=f"{EXP}/dataset/boxes.csv",
        labels=lambda w: plan.label_shards(f"{w.classifier}/{w.maps}/{w.refinement}"),
    output:
        scores=f"{EXP}/scores/boxes/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.json",
    log:
        f"{EXP}/logs/evaluate_boxes/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.log",
    benchmark:
        f"{EXP}/benchmarks/evaluate_boxes/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        method=lambda w: f"{w.classifier}/{w.maps}/{w.refinement}",
        code=code_digest("evaluate_boxes"),
    script:
        "pipeline/stages/evaluate_boxes.py"


rule visualise_classes:
    input:
        classes=f"{EXP}/dataset/classes.json",
        weights=f"{EXP}/classifiers/{{classifier}}/model.safetensors",
    output:
        grid=f"{EXP}/class_models/{{classifier}}.png",
    log:
        f"{EXP}/logs/visualise_classes/{{classifier}}.log",
    benchmark:
        f"{EXP}/benchmarks/visualise_classes/{{classifier}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=CLASS_MODELS,
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        seed=SEED,
        code=code_digest("visualise_classes"),
    script:
        "pipeline/stages/visualise_classes.py"


rule visualise_units:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        weights=f"{EXP}/classifiers/{{classifier}}/model.safetensors",
    output:
        grid=f"{EXP}/units/{{classifier}}.png",
    log:
        f"{EXP}/logs/visualise_units/{{classifier}}.log",
    benchmark:
        f"{EXP}/benchmarks/visualise_units/{{classifier}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=UNITS,
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("visualise_units"),
    script:
        "pipeline/stages/visualise_units.py"


rule classify:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        weights=f"{EXP}/classifiers/{{classifier}}/model.safetensors",
    output:
        class_scores=f"{EXP}/class_scores/{{classifier}}/{{split}}.csv",
    log:
        f"{EXP}/logs/classify/{{classifier}}/{{split}}.log",
    benchmark:
        f"{EXP}/benchmarks/classify/{{classifier}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        max_size=lambda w: COMPARISON["max_size"],
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("classify"),
    script:
        "pipeline/stages/classify.py"


rule localize:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        masks=f"{EXP}/dataset/masks.csv",
        boxes=f"{EXP}/dataset/boxes.csv",
        class_scores=f"{EXP}/class_scores/{{classifier}}/{{split}}.csv",
        maps=lambda w: plan.map_shards(f"{w.classifier}/{w.maps}", w.split),
    output:
        scores=f"{EXP}/scores/localization/{{classifier}}/{{maps}}/{{split}}.json",
        pairs=f"{EXP}/scores/localization/{{classifier}}/{{maps}}/{{split}}.csv",
    log:
        f"{EXP}/logs/localize/{{classifier}}/{{maps}}/{{split}}.log",
    benchmark:
        f"{EXP}/benchmarks/localize/{{classifier}}/{{maps}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=lambda w: COMPARISON["localization"],
        method=lambda w: f"{w.classifier}/{w.maps}",
        code=code_digest("localize"),
    script:
        "pipeline/stages/localize.py"


rule judge_faithfulness:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        weights=f"{EXP}/classifiers/{{classifier}}/model.safetensors",
        maps=lambda w: plan.map_shards(f"{w.classifier}/{w.maps}", w.split),
    output:
        scores=f"{EXP}/scores/faithfulness/{{classifier}}/{{maps}}/{{split}}.json",
        pairs=f"{EXP}/scores/faithfulness/{{classifier}}/{{maps}}/{{split}}.csv",
    log:
        f"{EXP}/logs/judge_faithfulness/{{classifier}}/{{maps}}/{{split}}.log",
    benchmark:
        f"{EXP}/benchmarks/judge_faithfulness/{{classifier}}/{{maps}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=lambda w: COMPARISON["faithfulness"],
        max_size=lambda w: COMPARISON["max_size"],
        method=lambda w: f"{w.classifier}/{w.maps}",
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("judge_faithfulness"),
    script:
        "pipeline/stages/judge_faithfulness.py"


rule compare_attributions:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        sweeps=plan.compared_scores("maps"),
        localization=plan.compared_scores("localization"),
        faithfulness=plan.compared_scores("faithfulness"),
        pairs=plan.compared_scores("faithfulness", "csv"),
        times=plan.compared_times(),
    output:
        table=f"{EXP}/comparison.csv",
    log:
        f"{EXP}/logs/compare_attributions.log",
    benchmark:
        f"{EXP}/benchmarks/compare_attributions.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        methods=plan.compared,
        split=lambda w: COMPARISON["split"],
        code=code_digest("compare_attributions"),
    script:
        "pipeline/stages/compare_attributions.py"


rule report:
    input:
        manifest=f"{EXP}/dataset/manifest.csv",
        classes=f"{EXP}/dataset/classes.json",
        masks=f"{EXP}/dataset/masks.csv",
        histories=plan.histories(),
        scores=plan.scores(),
        boxes=plan.box_scores(),
        image_scores=plan.image_scores(),
        maps=[shard for method in plan.maps for shard in plan.map_shards(method)],
        labels=[shard for method in plan.labels for shard in plan.label_shards(method)],
        predictions=[
            shard
            for method in plan.config["segmenters"]
            for shard in plan.prediction_shards(method)
        ],
        class_models=plan.class_models(),
        units=plan.units(),
        comparison=plan.comparison(),
        localization=plan.compared_scores("localization"),
        compared_maps=plan.compared_maps(),
        true_boxes=f"{EXP}/dataset/boxes.csv",
        times=plan.times(),
    output:
        report=report(f"{EXP}/report.html", category="Report"),
    log:
        f"{EXP}/logs/report.log",
    conda:
        "envs/pipeline.yaml"
    params:
        config=plan.config,
        gallery=plan.config["report"]["gallery"],
        code=code_digest("report"),
    script:
        "pipeline/stages/report.py"
