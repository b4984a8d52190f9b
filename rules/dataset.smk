# The data set: downloads, the manifest that training sees, and the ground truth that only scoring sees.


rule generate_demo:
    output:
        demo=directory("<experiment>/demo"),
    log:
        "<experiment>/logs/generate_demo.log",
    benchmark:
        "<experiment>/benchmarks/generate_demo.tsv"
    conda:
        "../envs/pipeline.yaml"
    params:
        train=lookup("dataset/train", within=CONFIG, default=0),
        val=lookup("dataset/val", within=CONFIG, default=0),
        size=lookup("dataset/size", within=CONFIG, default=0),
        seed=CONFIG["seed"],
        code=code_digest("generate_demo"),
    script:
        "../pipeline/stages/generate_demo.py"


rule download_archive:
    output:
        archive="<downloads>/archives/{archive}",
    log:
        "<experiment>/logs/download_archive/{archive}.log",
    conda:
        "../envs/pipeline.yaml"
    resources:
        url=lookup("{archive}/url", within=CONFIG["downloads"]),
    params:
        checksum=lookup("{archive}/checksum", within=CONFIG["downloads"]),
    script:
        "../pipeline/stages/download_archive.py"


rule assemble_devkit:
    input:
        voc="<downloads>/archives/voc2012",
        sbd=inputs.sbd_archive(CONFIG),
    output:
        devkit=directory(inputs.devkit(CONFIG)),
    log:
        "<experiment>/logs/assemble_devkit.log",
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        code=code_digest("assemble_devkit"),
    script:
        "../pipeline/stages/assemble_devkit.py"


rule prepare_dataset:
    input:
        sources=inputs.dataset_sources(plan),
    output:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        corrections="<experiment>/dataset/corrections.csv",
        images=directory("<experiment>/dataset/images"),
    log:
        "<experiment>/logs/prepare_dataset.log",
    benchmark:
        "<experiment>/benchmarks/prepare_dataset.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        dataset=inputs.dataset_without_ground_truth(plan),
        seed=CONFIG["seed"],
        review=review.of_labels(plan),
        corrected=review.labels_digest(plan),
        files=job.images_digest,
        code=code_digest("prepare_dataset"),
    script:
        "../pipeline/stages/prepare_dataset.py"


# A review reaches the jobs on two ways, so that a verdict does not train a classifier again:
#   its labels   -> prepare_dataset -> manifest.csv -> all jobs
#   its verdicts -> list_left_out   -> left_out.csv -> train_segmentation, export_labels
# No job of this rule exists unless the review judges an image bad.
rule list_left_out:
    input:
        review=review.source(plan),
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
    output:
        left_out="<experiment>/dataset/left_out.csv",
    log:
        "<experiment>/logs/list_left_out.log",
    priority: 1  # report unknown images before anything is trained
    conda:
        "../envs/pipeline.yaml"
    params:
        files=review.verdicts_digest(plan),
        code=code_digest("list_left_out"),
    script:
        "../pipeline/stages/list_left_out.py"


# Masks that people corrected replace the pseudo-labels of their images:
#   corrected -> list_corrected -> corrected.csv -> train_segmentation, export_labels,
#                                                   evaluate_corrections, report
# No job of this rule exists unless the configuration names corrected masks.
rule list_corrected:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
    output:
        masks=directory("<experiment>/dataset/corrected"),
        corrected="<experiment>/dataset/corrected.csv",
        findings="<experiment>/dataset/corrected_findings.json",
    log:
        "<experiment>/logs/list_corrected.log",
    priority: 1  # report unusable masks before anything is trained
    conda:
        "../envs/pipeline.yaml"
    params:
        path=corrected.path_of(plan),
        files=corrected.digest(plan),
        code=code_digest("list_corrected"),
    script:
        "../pipeline/stages/list_corrected.py"


rule list_ground_truth:
    input:
        sources=inputs.ground_truth_sources(plan),
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
    output:
        masks="<experiment>/dataset/masks.csv",
        boxes="<experiment>/dataset/boxes.csv",
        findings="<experiment>/dataset/findings.json",
    log:
        "<experiment>/logs/list_ground_truth.log",
    benchmark:
        "<experiment>/benchmarks/list_ground_truth.tsv"
    priority: 1  # report problems of masks first, although training does not use masks
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        dataset=inputs.dataset_section(plan),
        seed=CONFIG["seed"],
        files=job.ground_truth_digest,
        code=code_digest("list_ground_truth"),
    script:
        "../pipeline/stages/list_ground_truth.py"


rule check_dataset:
    input:
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        findings="<experiment>/dataset/findings.json",
        corrections="<experiment>/dataset/corrections.csv",
    output:
        page="<experiment>/dataset/check.html",
    log:
        "<experiment>/logs/check_dataset.log",
    benchmark:
        "<experiment>/benchmarks/check_dataset.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        images_per_class=6,
        code=code_digest("check_dataset"),
    script:
        "../pipeline/stages/check_dataset.py"
