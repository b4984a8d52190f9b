# Exports, the report, the scoreboard of all experiments, and the estimate of a run.


rule export_labels:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        labels=job.exported_labels,
        soft=job.exported_probabilities,
        scores=job.exported_scores,
        left_out=review.left_out(plan),
        corrected=corrected.table(plan),
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
        splits=job.export_splits,
        settings=job.export_settings,
        options=job.export_options,
        place=inputs.place_of_links(plan),
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
            shard for name in plan.predicted for shard in plan.prediction_shards(name)
        ],
        class_models=plan.class_models(),
        units=plan.units(),
        label_errors=plan.label_errors(),
        corrected=corrected.table(plan),
        corrected_findings=corrected.findings(plan),
        corrections=plan.correction_scores(),
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
        config=job.method,
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
        seed=job.seed,
        config=settings.method(CONFIG, CONFIG["seed"]),
        results=job.scored_results,
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
        others=job.records_digest,
        code=code_digest("scoreboard"),
    script:
        "../pipeline/stages/scoreboard.py"


rule estimate:
    log:
        "<experiment>/logs/estimate.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        config=CONFIG,
        snakefile=str(workflow.main_snakefile),
        # Paths in params are not completed by Snakemake: <experiment> would stay as it is.
        manifest=f"{plan.home}/dataset/manifest.csv",
        classes=f"{plan.home}/dataset/classes.json",
    script:
        "../pipeline/stages/estimate.py"
