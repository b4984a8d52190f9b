# Folders of unlabeled images, labeled by the trained networks.


rule list_folder:
    output:
        manifest="<experiment>/folders/{folder}/manifest.csv",
    log:
        "<experiment>/logs/list_folder/{folder}.log",
    benchmark:
        "<experiment>/benchmarks/list_folder/{folder}.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        images=lookup("{folder}/images", within=CONFIG["folders"]),
        max_pixels=lookup("{folder}/max_pixels", within=CONFIG["folders"]),
        files=job.folder_digest,
        code=code_digest("list_folder"),
    script:
        "../pipeline/stages/list_folder.py"


rule label_folder:
    input:
        manifest="<experiment>/folders/{folder}/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        class_scores=job.folder_class_scores,
    output:
        labeled="<run>/folders/{folder}/labeled/{classifier}.csv",
    log:
        "<run>/logs/label_folder/{folder}/{classifier}.log",
    benchmark:
        "<run>/benchmarks/label_folder/{folder}/{classifier}.tsv"
    conda:
        "../envs/pipeline.yaml"
    params:
        confidence=lookup("{folder}/confidence", within=CONFIG["folders"]),
        code=code_digest("label_folder"),
    script:
        "../pipeline/stages/label_folder.py"


rule predict_folder:
    input:
        manifest=job.folder_manifest,
        classes="<experiment>/dataset/classes.json",
        shards=job.folder_labels,
    output:
        result=directory("<run>/folders/{folder}/{kind}/<method>"),
    log:
        "<run>/logs/predict_folder/{folder}/{kind}/<method>.log",
    benchmark:
        "<run>/benchmarks/predict_folder/{folder}/{kind}/<method>.tsv"
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    params:
        images=lookup("{folder}/images", within=CONFIG["folders"]),
        code=code_digest("predict_folder"),
    script:
        "../pipeline/stages/predict_folder.py"
