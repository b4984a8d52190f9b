import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

sys.path.insert(0, str(workflow.current_basedir))

from pipeline import described, jobs, preflight, sources
from pipeline.config import refuse_repeated_keys, resolve
from pipeline.copies import mend_times
from pipeline.digest import code_digest
from pipeline.errors import UserError, readable
from pipeline.network_check import check_networks
from pipeline.resources import needs
from pipeline.scoreboard import known_records
from pipeline.workflow import Plan, labels_path, maps_path, use_own_package

min_version("9.14")
use_own_package()
preflight.use_utf8()
preflight.quote_interpreter()


# A configuration that names a dataset stands on its own; without one the demo runs.
if "dataset" not in config:

    configfile: f"{workflow.current_basedir}/config.yaml"


try:
    refuse_repeated_keys(workflow.configfiles)
    plan = Plan(resolve(config))
except UserError as error:
    raise WorkflowError(error)
if workflow.is_main_process:
    surroundings = [sys.executable, workflow.current_basedir, Path.cwd()]
    if problems := list(preflight.problems(plan, surroundings)):
        raise WorkflowError(readable("; ".join(problems)))
    if locked := preflight.announce_run(plan.home):
        logger.warning(locked)
    mend_times()
    if problems := list(preflight.future_results(plan)):
        raise WorkflowError(readable("; ".join(problems)))
    try:
        check_networks(plan, Path(".snakemake/wsss-networks"))
    except UserError as error:
        raise WorkflowError(error)

HOME = plan.home
RUN = plan.root
CONFIG = plan.config
CLASSIFIERS = CONFIG["classifiers"]
ATTRIBUTIONS = CONFIG["attributions"]
AFFINITY = CONFIG.get("affinity")
RANDOM_WALKS = CONFIG["random_walks"]
CLASS_MODELS = CONFIG.get("class_models")
UNITS = CONFIG.get("units")
COMPARISON = CONFIG.get("comparison")
REFINEMENTS = CONFIG["refinements"]
SEGMENTER = CONFIG.get("segmenter")
PREDICTION = CONFIG["prediction"]
FOLDERS = CONFIG["folders"]
DOWNLOADS = CONFIG["downloads"]


# A path with another name than the configuration's is no result that a rule makes.
wildcard_constraints:
    classifier=plan.names_of("classifiers"),
    attribution=plan.names_of("attributions"),
    walk=plan.names_of("random_walks"),
    maps=plan.names_of_maps(),
    refinement=plan.names_of("refinements"),
    split=plan.splits,
    shard=r"\d+",
    seed=r"\d+",
    kind="labels|predictions",
    format="voc|coco|yolo|png|soft",
    folder=plan.names_of("folders"),
    archive="voc2012|sbd",
    backbone="[^/]+",


localrules:
    all,
    download_archive,  # the nodes of a cluster may have no network
    download_weights,
    estimate,
    record_experiment,


rule all:
    input:
        plan.targets(),


rule estimate:
    log:
        f"{HOME}/logs/estimate.log",
    conda:
        "envs/pipeline.yaml"
    params:
        config=CONFIG,
        snakefile=str(workflow.main_snakefile),
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
    script:
        "pipeline/stages/estimate.py"


rule generate_demo:
    output:
        demo=directory(f"{HOME}/demo"),
    log:
        f"{HOME}/logs/generate_demo.log",
    benchmark:
        f"{HOME}/benchmarks/generate_demo.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        train=lookup("dataset/train", within=CONFIG, default=0),
        val=lookup("dataset/val", within=CONFIG, default=0),
        size=lookup("dataset/size", within=CONFIG, default=0),
        seed=CONFIG["seed"],
        code=code_digest("generate_demo"),
    script:
        "pipeline/stages/generate_demo.py"


rule download_archive:
    output:
        archive=f"{DOWNLOADS['folder']}/archives/{{archive}}",
    log:
        f"{HOME}/logs/download_archive/{{archive}}.log",
    conda:
        "envs/pipeline.yaml"
    resources:
        url=lambda w: DOWNLOADS[w.archive]["url"],
    params:
        checksum=lambda w: DOWNLOADS[w.archive]["checksum"],
    script:
        "pipeline/stages/download_archive.py"


rule assemble_devkit:
    input:
        voc=f"{DOWNLOADS['folder']}/archives/voc2012",
        sbd=sources.sbd_archive(CONFIG),
    output:
        devkit=directory(sources.devkit(CONFIG)),
    log:
        f"{HOME}/logs/assemble_devkit.log",
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        code=code_digest("assemble_devkit"),
    script:
        "pipeline/stages/assemble_devkit.py"


rule download_weights:
    output:
        weights=f"{DOWNLOADS['folder']}/weights/{{backbone}}.safetensors",
    log:
        f"{HOME}/logs/download_weights/{{backbone}}.log",
    conda:
        "envs/pipeline.yaml"
    script:
        "pipeline/stages/download_weights.py"


rule prepare_dataset:
    input:
        sources=sources.dataset_sources(plan),
    output:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        photographs=directory(f"{HOME}/dataset/photographs"),
    log:
        f"{HOME}/logs/prepare_dataset.log",
    benchmark:
        f"{HOME}/benchmarks/prepare_dataset.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        dataset=sources.photographs_section(plan),
        seed=CONFIG["seed"],
        files=lambda w: sources.state_of_photographs(plan),
        code=code_digest("prepare_dataset"),
    script:
        "pipeline/stages/prepare_dataset.py"


rule list_truth:
    input:
        sources=sources.truth_sources(plan),
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
    output:
        masks=f"{HOME}/dataset/masks.csv",
        boxes=f"{HOME}/dataset/boxes.csv",
        findings=f"{HOME}/dataset/findings.json",
    log:
        f"{HOME}/logs/list_truth.log",
    benchmark:
        f"{HOME}/benchmarks/list_truth.tsv"
    priority: 1  # what is wrong with a mask is said first, though trainings do not need to know
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        dataset=sources.dataset_section(plan),
        seed=CONFIG["seed"],
        files=lambda w: sources.state_of_truth(plan),
        code=code_digest("list_truth"),
    script:
        "pipeline/stages/list_truth.py"


rule check_dataset:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        findings=f"{HOME}/dataset/findings.json",
    output:
        page=f"{HOME}/dataset/check.html",
    log:
        f"{HOME}/logs/check_dataset.log",
    benchmark:
        f"{HOME}/benchmarks/check_dataset.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        pictures=6,
        code=code_digest("check_dataset"),
    script:
        "pipeline/stages/check_dataset.py"


rule train_classifier:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        pretrained=lambda w: sources.classifier_start(plan.at(w), w.classifier),
    output:
        weights=f"{RUN}/classifiers/{{classifier}}/model.safetensors",
        history=f"{RUN}/classifiers/{{classifier}}/history.csv",
    log:
        f"{RUN}/logs/train_classifier/{{classifier}}.log",
    benchmark:
        f"{RUN}/benchmarks/train_classifier/{{classifier}}.tsv"
    wildcard_constraints:
        classifier=plan.classifiers_of("network"),
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "train_classifier"),
    params:
        settings=lambda w: CLASSIFIERS[w.classifier],
        seed=lambda w: plan.at(w).seed,
        files=lambda w: sources.state_of_weights(
            sources.classifier_start(plan.at(w), w.classifier)
        ),
        code=code_digest("train_classifier"),
    script:
        "pipeline/stages/train_classifier.py"


rule fit_probe:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        pretrained=lambda w: sources.pretrained(CONFIG, CLASSIFIERS[w.classifier]),
    output:
        weights=f"{RUN}/classifiers/{{classifier}}/model.safetensors",
    log:
        f"{RUN}/logs/fit_probe/{{classifier}}.log",
    benchmark:
        f"{RUN}/benchmarks/fit_probe/{{classifier}}.tsv"
    wildcard_constraints:
        classifier=plan.classifiers_of("linear-probe"),
    conda:
        "envs/pipeline.yaml"
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
        "pipeline/stages/fit_probe.py"


rule classify:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split),
        classes=f"{HOME}/dataset/classes.json",
        weights=f"{RUN}/classifiers/{{classifier}}/model.safetensors",
    output:
        class_scores=f"{RUN}/class_scores/{{classifier}}/{{split}}/{{shard}}.csv",
    log:
        f"{RUN}/logs/classify/{{classifier}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/classify/{{classifier}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "classify"),
    params:
        max_size=CONFIG["classification"]["max_size"],
        shards=CONFIG["shards"],
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("classify"),
    script:
        "pipeline/stages/classify.py"


rule list_folder:
    output:
        manifest=f"{HOME}/folders/{{folder}}/manifest.csv",
    log:
        f"{HOME}/logs/list_folder/{{folder}}.log",
    benchmark:
        f"{HOME}/benchmarks/list_folder/{{folder}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        images=lambda w: FOLDERS[w.folder]["images"],
        max_pixels=lambda w: FOLDERS[w.folder]["max_pixels"],
        files=lambda w: sources.state_of_folder(Path(FOLDERS[w.folder]["images"])),
        code=code_digest("list_folder"),
    script:
        "pipeline/stages/list_folder.py"


rule label_folder:
    input:
        manifest=f"{HOME}/folders/{{folder}}/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        class_scores=lambda w: plan.at(w).class_scores(w.classifier, w.folder),
    output:
        labelled=f"{RUN}/folders/{{folder}}/labelled/{{classifier}}.csv",
    log:
        f"{RUN}/logs/label_folder/{{folder}}/{{classifier}}.log",
    benchmark:
        f"{RUN}/benchmarks/label_folder/{{folder}}/{{classifier}}.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        confidence=lambda w: FOLDERS[w.folder]["confidence"],
        code=code_digest("label_folder"),
    script:
        "pipeline/stages/label_folder.py"


rule make_maps:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split, w.classifier),
        classes=f"{HOME}/dataset/classes.json",
        weights=lambda w: plan.at(w).map_weights(w.classifier, w.attribution),
        earlier=lambda w: plan.at(w).earlier_maps(w),
    output:
        maps=f"{RUN}/maps/{{classifier}}/{{attribution}}/{{split}}/{{shard}}.safetensors",
    log:
        f"{RUN}/logs/make_maps/{{classifier}}/{{attribution}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/make_maps/{{classifier}}/{{attribution}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "make_maps"),
    params:
        settings=lambda w: ATTRIBUTIONS[w.attribution],
        shards=CONFIG["shards"],
        precision=lambda w: described.map_precision(CONFIG, w.classifier, w.attribution),
        code=code_digest("make_maps"),
    script:
        "pipeline/stages/make_maps.py"


rule make_affinity_labels:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        maps=f"{RUN}/maps/{{classifier}}/{{attribution}}/train/{{shard}}.safetensors",
    output:
        labels=directory(
            f"{RUN}/affinity/{{classifier}}/{{attribution}}/labels/{{shard}}"
        ),
    log:
        f"{RUN}/logs/make_affinity_labels/{{classifier}}/{{attribution}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/make_affinity_labels/{{classifier}}/{{attribution}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "make_affinity_labels"),
    params:
        foreground=lambda w: AFFINITY["labels"]["foreground"],
        background=lambda w: AFFINITY["labels"]["background"],
        crf=lambda w: AFFINITY["labels"]["crf"],
        code=code_digest("make_affinity_labels"),
    script:
        "pipeline/stages/make_affinity_labels.py"


rule train_affinity:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        classifier=f"{RUN}/classifiers/{{classifier}}/model.safetensors",
        labels=lambda w: plan.at(w).affinity_shards(f"{w.classifier}/{w.attribution}"),
        pretrained=lambda w: sources.affinity_pretrained(CONFIG, w.classifier),
    output:
        weights=f"{RUN}/affinity/{{classifier}}/{{attribution}}/model.safetensors",
        history=f"{RUN}/affinity/{{classifier}}/{{attribution}}/history.csv",
    log:
        f"{RUN}/logs/train_affinity/{{classifier}}/{{attribution}}.log",
    benchmark:
        f"{RUN}/benchmarks/train_affinity/{{classifier}}/{{attribution}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "train_affinity"),
    params:
        settings=described.affinity_training(CONFIG) if AFFINITY else None,
        seed=lambda w: plan.at(w).seed,
        files=lambda w: sources.state_of_weights(
            sources.affinity_pretrained(CONFIG, w.classifier)
        ),
        code=code_digest("train_affinity"),
    script:
        "pipeline/stages/train_affinity.py"


rule propagate_maps:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split, w.classifier),
        classes=f"{HOME}/dataset/classes.json",
        source=f"{RUN}/maps/{{classifier}}/{{attribution}}/{{split}}/{{shard}}.safetensors",
        weights=f"{RUN}/affinity/{{classifier}}/{{attribution}}/model.safetensors",
    output:
        maps=f"{RUN}/maps/{{classifier}}/{{attribution}}+{{walk}}/{{split}}/{{shard}}.safetensors",
    log:
        f"{RUN}/logs/propagate_maps/{{classifier}}/{{attribution}}+{{walk}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/propagate_maps/{{classifier}}/{{attribution}}+{{walk}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "propagate_maps"),
    params:
        settings=lambda w: RANDOM_WALKS[w.walk],
        precision=lambda w: AFFINITY["precision"],
        code=code_digest("propagate_maps"),
    script:
        "pipeline/stages/propagate_maps.py"


rule choose_threshold:
    input:
        maps=lambda w: plan.at(w).map_shards(maps_path(w), w.split),
    output:
        thresholds=f"{RUN}/thresholds/{{classifier}}/{{maps}}/{{split}}.json",
    log:
        f"{RUN}/logs/choose_threshold/{{classifier}}/{{maps}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/choose_threshold/{{classifier}}/{{maps}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        method=maps_path,
        code=code_digest("choose_threshold"),
    script:
        "pipeline/stages/choose_threshold.py"


rule make_labels:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split, w.classifier),
        classes=f"{HOME}/dataset/classes.json",
        maps=f"{RUN}/maps/{{classifier}}/{{maps}}/{{split}}/{{shard}}.safetensors",
        threshold=lambda w: plan.at(w).threshold(labels_path(w)),
    output:
        figures=f"{RUN}/labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.csv",
        labels=directory(
            f"{RUN}/labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}"
        ),
    log:
        f"{RUN}/logs/make_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/make_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "make_labels"),
    params:
        background=lambda w: described.background(CONFIG, w.refinement),
        crf=lambda w: REFINEMENTS[w.refinement]["crf"],
        graph_cut=lambda w: REFINEMENTS[w.refinement]["graph_cut"],
        unsure_below=lambda w: REFINEMENTS[w.refinement]["unsure_below"],
        code=code_digest("make_labels"),
    script:
        "pipeline/stages/make_labels.py"


rule make_soft_labels:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split, w.classifier),
        classes=f"{HOME}/dataset/classes.json",
        maps=f"{RUN}/maps/{{classifier}}/{{maps}}/{{split}}/{{shard}}.safetensors",
        threshold=lambda w: plan.at(w).threshold(labels_path(w)),
    output:
        soft_labels=directory(
            f"{RUN}/soft_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}"
        ),
    log:
        f"{RUN}/logs/make_soft_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/make_soft_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "make_soft_labels"),
    params:
        background=lambda w: described.background(CONFIG, w.refinement),
        crf=lambda w: REFINEMENTS[w.refinement]["crf"],
        graph_cut=lambda w: REFINEMENTS[w.refinement]["graph_cut"],
        code=code_digest("make_soft_labels"),
    script:
        "pipeline/stages/make_soft_labels.py"


rule train_segmenter:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        labels=lambda w: plan.at(w).label_shards(labels_path(w)),
        pretrained=lambda w: sources.pretrained(CONFIG, SEGMENTER),
    output:
        weights=f"{RUN}/segmenters/{{classifier}}/{{maps}}/{{refinement}}/model.safetensors",
        history=f"{RUN}/segmenters/{{classifier}}/{{maps}}/{{refinement}}/history.csv",
    log:
        f"{RUN}/logs/train_segmenter/{{classifier}}/{{maps}}/{{refinement}}.log",
    benchmark:
        f"{RUN}/benchmarks/train_segmenter/{{classifier}}/{{maps}}/{{refinement}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "train_segmenter"),
    params:
        settings=lambda w: SEGMENTER,
        seed=lambda w: plan.at(w).seed,
        files=lambda w: sources.state_of_weights(sources.pretrained(CONFIG, SEGMENTER)),
        code=code_digest("train_segmenter"),
    script:
        "pipeline/stages/train_segmenter.py"


rule predict_masks:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split),
        classes=f"{HOME}/dataset/classes.json",
        weights=f"{RUN}/segmenters/{{classifier}}/{{maps}}/{{refinement}}/model.safetensors",
    output:
        predictions=directory(
            f"{RUN}/predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}"
        ),
    log:
        f"{RUN}/logs/predict_masks/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/predict_masks/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "predict_masks"),
    params:
        settings=lambda w: PREDICTION,
        shards=CONFIG["shards"],
        precision=lambda w: SEGMENTER["precision"],
        code=code_digest("predict_masks"),
    script:
        "pipeline/stages/predict_masks.py"


rule predict_soft_masks:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split),
        classes=f"{HOME}/dataset/classes.json",
        weights=f"{RUN}/segmenters/{{classifier}}/{{maps}}/{{refinement}}/model.safetensors",
    output:
        soft_predictions=directory(
            f"{RUN}/soft_predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}"
        ),
    log:
        f"{RUN}/logs/predict_soft_masks/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/predict_soft_masks/{{classifier}}/{{maps}}/{{refinement}}/{{split}}/{{shard}}.tsv"
    conda:
        "envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "predict_soft_masks"),
    params:
        settings=lambda w: PREDICTION,
        shards=CONFIG["shards"],
        precision=lambda w: SEGMENTER["precision"],
        code=code_digest("predict_soft_masks"),
    script:
        "pipeline/stages/predict_soft_masks.py"


rule sweep_thresholds:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        masks=f"{HOME}/dataset/masks.csv",
        maps=lambda w: plan.at(w).map_shards(maps_path(w), w.split),
        label_free=f"{RUN}/thresholds/{{classifier}}/{{maps}}/{{split}}.json",
    output:
        scores=f"{RUN}/scores/maps/{{classifier}}/{{maps}}/{{split}}.json",
        counts=f"{RUN}/scores/maps/{{classifier}}/{{maps}}/{{split}}.counts.safetensors",
    log:
        f"{RUN}/logs/sweep_thresholds/{{classifier}}/{{maps}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/sweep_thresholds/{{classifier}}/{{maps}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        method=maps_path,
        thresholds=CONFIG["evaluation"]["thresholds"],
        rule=CONFIG["evaluation"]["label_free_rule"],
        settings=lambda w: described.map_settings(CONFIG, w.maps),
        code=code_digest("sweep_thresholds"),
    script:
        "pipeline/stages/sweep_thresholds.py"


rule evaluate_labels:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        masks=f"{HOME}/dataset/masks.csv",
        labels=lambda w: plan.at(w).label_shards(labels_path(w), w.split),
        threshold=lambda w: plan.at(w).threshold(labels_path(w)),
    output:
        scores=f"{RUN}/scores/labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.json",
        images=f"{RUN}/scores/labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.csv",
        counts=f"{RUN}/scores/labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.counts.safetensors",
    log:
        f"{RUN}/logs/evaluate_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/evaluate_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        kind="labels",
        method=labels_path,
        settings=lambda w: described.label_settings(CONFIG, w.maps, w.refinement),
        code=code_digest("evaluate"),
    script:
        "pipeline/stages/evaluate.py"


use rule evaluate_labels as evaluate_predictions with:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        masks=f"{HOME}/dataset/masks.csv",
        labels=lambda w: plan.at(w).prediction_shards(labels_path(w), w.split),
        threshold=[],
    output:
        scores=f"{RUN}/scores/predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.json",
        images=f"{RUN}/scores/predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.csv",
        counts=f"{RUN}/scores/predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.counts.safetensors",
    log:
        f"{RUN}/logs/evaluate_predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/evaluate_predictions/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.tsv"
    params:
        kind="predictions",
        method=labels_path,
        settings=described.prediction_settings(CONFIG),
        code=code_digest("evaluate"),


rule evaluate_boxes:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        masks=f"{HOME}/dataset/masks.csv",
        boxes=f"{HOME}/dataset/boxes.csv",
        labels=lambda w: plan.at(w).label_shards(labels_path(w), w.split),
    output:
        scores=f"{RUN}/scores/boxes/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.json",
    log:
        f"{RUN}/logs/evaluate_boxes/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/evaluate_boxes/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        method=labels_path,
        code=code_digest("evaluate_boxes"),
    script:
        "pipeline/stages/evaluate_boxes.py"


rule compare_labels:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        labels=lambda w: [
            shard
            for method in plan.labels
            for shard in plan.at(w).label_shards(method, w.split)
        ],
    output:
        agreement=f"{RUN}/quality/agreement/{{split}}.csv",
    log:
        f"{RUN}/logs/compare_labels/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/compare_labels/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        methods=plan.labels,
        code=code_digest("compare_labels"),
    script:
        "pipeline/stages/compare_labels.py"


rule assess_labels:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        maps=lambda w: plan.at(w).map_shards(maps_path(w).split("+")[0], w.split),
        class_scores=lambda w: plan.at(w).class_scores(w.classifier, w.split),
        figures=lambda w: [
            f"{folder}.csv"
            for folder in plan.at(w).label_shards(labels_path(w), w.split)
        ],
        agreement=lambda w: plan.at(w).label_agreement(w.split),
    output:
        quality=f"{RUN}/quality/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.csv",
    log:
        f"{RUN}/logs/assess_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/assess_labels/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        method=labels_path,
        code=code_digest("assess_labels"),
    script:
        "pipeline/stages/assess_labels.py"


rule summarise_quality:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        quality=f"{RUN}/quality/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.csv",
        image_scores=lambda w: plan.at(w).label_image_scores(labels_path(w), w.split),
    output:
        summary=f"{RUN}/quality/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.json",
    log:
        f"{RUN}/logs/summarise_quality/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/summarise_quality/{{classifier}}/{{maps}}/{{refinement}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        method=labels_path,
        code=code_digest("summarise_quality"),
    script:
        "pipeline/stages/summarise_quality.py"


rule visualise_classes:
    input:
        classes=f"{HOME}/dataset/classes.json",
        weights=f"{RUN}/classifiers/{{classifier}}/model.safetensors",
    output:
        grid=f"{RUN}/class_models/{{classifier}}.png",
    log:
        f"{RUN}/logs/visualise_classes/{{classifier}}.log",
    benchmark:
        f"{RUN}/benchmarks/visualise_classes/{{classifier}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "visualise_classes"),
    params:
        settings=CLASS_MODELS,
        precision=described.GRADIENT_PRECISION,
        seed=lambda w: plan.at(w).seed,
        code=code_digest("visualise_classes"),
    script:
        "pipeline/stages/visualise_classes.py"


rule visualise_units:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        weights=f"{RUN}/classifiers/{{classifier}}/model.safetensors",
    output:
        grid=f"{RUN}/units/{{classifier}}.png",
    log:
        f"{RUN}/logs/visualise_units/{{classifier}}.log",
    benchmark:
        f"{RUN}/benchmarks/visualise_units/{{classifier}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "visualise_units"),
    params:
        settings=UNITS,
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("visualise_units"),
    script:
        "pipeline/stages/visualise_units.py"


rule localize:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        masks=f"{HOME}/dataset/masks.csv",
        boxes=f"{HOME}/dataset/boxes.csv",
        class_scores=lambda w: plan.at(w).class_scores(w.classifier, w.split),
        maps=lambda w: plan.at(w).map_shards(maps_path(w), w.split),
    output:
        scores=f"{RUN}/scores/localization/{{classifier}}/{{maps}}/{{split}}.json",
        pairs=f"{RUN}/scores/localization/{{classifier}}/{{maps}}/{{split}}.csv",
    log:
        f"{RUN}/logs/localize/{{classifier}}/{{maps}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/localize/{{classifier}}/{{maps}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        settings=lambda w: COMPARISON["localization"],
        method=maps_path,
        code=code_digest("localize"),
    script:
        "pipeline/stages/localize.py"


rule judge_faithfulness:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        weights=f"{RUN}/classifiers/{{classifier}}/model.safetensors",
        maps=lambda w: plan.at(w).map_shards(maps_path(w), w.split),
    output:
        scores=f"{RUN}/scores/faithfulness/{{classifier}}/{{maps}}/{{split}}.json",
        pairs=f"{RUN}/scores/faithfulness/{{classifier}}/{{maps}}/{{split}}.csv",
    log:
        f"{RUN}/logs/judge_faithfulness/{{classifier}}/{{maps}}/{{split}}.log",
    benchmark:
        f"{RUN}/benchmarks/judge_faithfulness/{{classifier}}/{{maps}}/{{split}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "judge_faithfulness"),
    params:
        settings=lambda w: COMPARISON["faithfulness"],
        max_size=lambda w: COMPARISON["max_size"],
        method=maps_path,
        precision=lambda w: CLASSIFIERS[w.classifier]["precision"],
        code=code_digest("judge_faithfulness"),
    script:
        "pipeline/stages/judge_faithfulness.py"


rule compare_attributions:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        sweeps=plan.compared_scores("maps"),
        localization=plan.compared_scores("localization"),
        faithfulness=plan.compared_scores("faithfulness"),
        pairs=plan.compared_scores("faithfulness", "csv"),
        times=jobs.compared_times(plan),
    output:
        table=f"{RUN}/comparison.csv",
    log:
        f"{RUN}/logs/compare_attributions.log",
    benchmark:
        f"{RUN}/benchmarks/compare_attributions.tsv"
    conda:
        "envs/pipeline.yaml"
    params:
        methods=plan.compared,
        split=lambda w: COMPARISON["split"],
        code=code_digest("compare_attributions"),
    script:
        "pipeline/stages/compare_attributions.py"


rule export_labels:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        labels=lambda w: plan.at(w).export_shards(w.format, w.kind, labels_path(w))[
            "labels"
        ],
        soft=lambda w: plan.at(w).export_shards(w.format, w.kind, labels_path(w))[
            "soft"
        ],
        scores=lambda w: plan.at(w).export_scores(w.kind, labels_path(w)),
    output:
        export=directory(
            f"{RUN}/export/{{format}}/{{kind}}/{{classifier}}/{{maps}}/{{refinement}}"
        ),
    log:
        f"{RUN}/logs/export_labels/{{format}}/{{kind}}/{{classifier}}/{{maps}}/{{refinement}}.log",
    benchmark:
        f"{RUN}/benchmarks/export_labels/{{format}}/{{kind}}/{{classifier}}/{{maps}}/{{refinement}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        method=labels_path,
        splits=lambda w: plan.export_splits(w.kind),
        settings=lambda w: described.export_settings(CONFIG, w.kind, labels_path(w)),
        options=lambda w: described.export_options(CONFIG),
        place=sources.place_of_links(plan),
        code=code_digest("export_labels"),
    script:
        "pipeline/stages/export_labels.py"


rule predict_folder:
    input:
        manifest=lambda w: plan.at(w).folder_manifest(w.folder, w.kind, w.classifier),
        classes=f"{HOME}/dataset/classes.json",
        shards=lambda w: plan.at(w).kind_shards(w.kind, labels_path(w), w.folder),
    output:
        result=directory(
            f"{RUN}/folders/{{folder}}/{{kind}}/{{classifier}}/{{maps}}/{{refinement}}"
        ),
    log:
        f"{RUN}/logs/predict_folder/{{folder}}/{{kind}}/{{classifier}}/{{maps}}/{{refinement}}.log",
    benchmark:
        f"{RUN}/benchmarks/predict_folder/{{folder}}/{{kind}}/{{classifier}}/{{maps}}/{{refinement}}.tsv"
    conda:
        "envs/pipeline.yaml"
    threads: 8
    params:
        images=lambda w: FOLDERS[w.folder]["images"],
        code=code_digest("predict_folder"),
    script:
        "pipeline/stages/predict_folder.py"


rule report:
    input:
        manifest=f"{HOME}/dataset/manifest.csv",
        classes=f"{HOME}/dataset/classes.json",
        masks=f"{HOME}/dataset/masks.csv",
        findings=f"{HOME}/dataset/findings.json",
        histories=plan.histories(),
        scores=plan.scores(),
        boxes=plan.box_scores(),
        image_scores=plan.image_scores(),
        maps=[shard for method in plan.maps for shard in plan.map_shards(method)],
        labels=[shard for method in plan.labels for shard in plan.label_shards(method)],
        predictions=[
            shard
            for method in CONFIG["segmenters"]
            for shard in plan.prediction_shards(method)
        ],
        class_models=plan.class_models(),
        units=plan.units(),
        comparison=plan.comparison(),
        localization=plan.compared_scores("localization"),
        compared_maps=plan.compared_maps(),
        true_boxes=f"{HOME}/dataset/boxes.csv",
        quality=plan.quality("csv"),
        quality_scores=plan.quality("json"),
        times=jobs.times(plan),
    output:
        report=report(f"{RUN}/report.html", category="Report"),
    log:
        f"{RUN}/logs/report.log",
    conda:
        "envs/pipeline.yaml"
    params:
        config=lambda w: described.method(CONFIG, plan.at(w).seed),
        gallery=CONFIG["report"]["gallery"],
        code=code_digest("report"),
    script:
        "pipeline/stages/report.py"


rule record_experiment:
    input:
        scores=plan.scores(),
    output:
        record=f"{RUN}/experiment.json",
    log:
        f"{RUN}/logs/record_experiment.log",
    conda:
        "envs/pipeline.yaml"
    params:
        experiment=CONFIG["experiment"],
        seed=lambda w: plan.at(w).seed,
        config=described.method(CONFIG, CONFIG["seed"]),
        results=lambda w: jobs.scored_results(plan.at(w)),
        code=code_digest("record_experiment"),
    script:
        "pipeline/stages/record_experiment.py"


rule scoreboard:
    input:
        records=[f"{run.root}/experiment.json" for run in plan.runs],
    output:
        table="results/scoreboard.csv",
        differences="results/scoreboard-differences.csv",
        page=report("results/scoreboard.html", category="Report"),
    log:
        f"{HOME}/logs/scoreboard.log",
    conda:
        "envs/pipeline.yaml"
    params:
        others=lambda w: known_records(Path("results"), besides=CONFIG["experiment"]),
        code=code_digest("scoreboard"),
    script:
        "pipeline/stages/scoreboard.py"
