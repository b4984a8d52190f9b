# Exports, the report, and the scoreboard of all experiments.


rule export_labels:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        labels=lambda w: plan.at(w).export_shards(w.format, w.kind, labels_path(w))[
            "labels"
        ],
        soft=lambda w: plan.at(w).export_shards(w.format, w.kind, labels_path(w))[
            "soft"
        ],
        scores=lambda w: plan.at(w).export_scores(w.kind, labels_path(w)),
    output:
        export=directory("<run>/export/{format}/{kind}/<method>"),
    log:
        "<run>/logs/export_labels/{format}/{kind}/<method>.log",
    benchmark:
        "<run>/benchmarks/export_labels/{format}/{kind}/<method>.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        method=labels_path,
        splits=lambda w: plan.export_splits(w.kind),
        settings=lambda w: described.export_settings(CONFIG, w.kind, labels_path(w)),
        options=lambda w: described.export_options(CONFIG),
        place=sources.place_of_links(plan),
        code=code_digest("export_labels"),
    script:
        "../pipeline/stages/export_labels.py"


rule report:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        masks="<experiment>/dataset/masks.csv",
        findings="<experiment>/dataset/findings.json",
        histories=plan.histories(),
        scores=plan.scores(),
        boxes=plan.box_scores(),
        image_scores=plan.image_scores(),
        maps=[shard for method in plan.maps for shard in plan.map_shards(method)],
        labels=[shard for method in plan.labels for shard in plan.label_shards(method)],
        predictions=[
            shard
            for method in plan.segmentation_labels
            for shard in plan.prediction_shards(method)
        ],
        class_models=plan.class_models(),
        units=plan.units(),
        comparison=plan.comparison(),
        localization=plan.compared_scores("localization"),
        compared_maps=plan.compared_maps(),
        true_boxes="<experiment>/dataset/boxes.csv",
        quality=plan.quality("csv"),
        quality_scores=plan.quality("json"),
        times=jobs.times(plan),
    output:
        report=report("<run>/report.html", category="Report"),
    log:
        "<run>/logs/report.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        config=lambda w: described.method(CONFIG, plan.at(w).seed),
        gallery=CONFIG["report"]["gallery"],
        code=code_digest("report"),
    script:
        "../pipeline/stages/report.py"


rule record_experiment:
    input:
        scores=plan.scores(),
    output:
        record="<run>/experiment.json",
    log:
        "<run>/logs/record_experiment.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        experiment=CONFIG["experiment"],
        seed=lambda w: plan.at(w).seed,
        config=described.method(CONFIG, CONFIG["seed"]),
        results=lambda w: jobs.scored_results(plan.at(w)),
        code=code_digest("record_experiment"),
    script:
        "../pipeline/stages/record_experiment.py"


rule scoreboard:
    input:
        records=[f"{run.root}/experiment.json" for run in plan.runs],
    output:
        table="results/scoreboard.csv",
        differences="results/scoreboard-differences.csv",
        page=report("results/scoreboard.html", category="Report"),
    log:
        "<experiment>/logs/scoreboard.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        others=lambda w: known_records(Path("results"), besides=CONFIG["experiment"]),
        code=code_digest("scoreboard"),
    script:
        "../pipeline/stages/scoreboard.py"
