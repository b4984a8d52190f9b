# Folders of further images that trained networks are applied to.


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
        images=lambda w: FOLDERS[w.folder]["images"],
        max_pixels=lambda w: FOLDERS[w.folder]["max_pixels"],
        files=lambda w: sources.state_of_folder(Path(FOLDERS[w.folder]["images"])),
        code=code_digest("list_folder"),
    script:
        "../pipeline/stages/list_folder.py"


rule label_folder:
    input:
        manifest="<experiment>/folders/{folder}/manifest.csv",
        classes="<experiment>/dataset/classes.json",
        class_scores=lambda w: plan.at(w).class_scores(w.classifier, w.folder),
    output:
        labeled="<run>/folders/{folder}/labeled/{classifier}.csv",
    log:
        "<run>/logs/label_folder/{folder}/{classifier}.log",
    benchmark:
        "<run>/benchmarks/label_folder/{folder}/{classifier}.tsv"
    conda:
        "../envs/pipeline.yaml"
    params:
        confidence=lambda w: FOLDERS[w.folder]["confidence"],
        code=code_digest("label_folder"),
    script:
        "../pipeline/stages/label_folder.py"


rule predict_folder:
    input:
        manifest=lambda w: plan.at(w).folder_manifest(w.folder, w.kind, w.classifier),
        classes="<experiment>/dataset/classes.json",
        shards=lambda w: plan.at(w).kind_shards(w.kind, labels_path(w), w.folder),
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
        images=lambda w: FOLDERS[w.folder]["images"],
        code=code_digest("predict_folder"),
    script:
        "../pipeline/stages/predict_folder.py"
