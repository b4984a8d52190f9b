# Class maps of every attribution method.


rule make_maps:
    input:
        manifest=lambda w: plan.at(w).manifest(w.split, w.classifier),
        classes="<experiment>/dataset/classes.json",
        weights=lambda w: plan.at(w).map_weights(w.classifier, w.attribution),
        previous=lambda w: plan.at(w).previous_maps(w),
    output:
        maps="<run>/maps/{classifier}/{attribution}/{split}/{shard}.safetensors",
    log:
        "<run>/logs/make_maps/{classifier}/{attribution}/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/make_maps/{classifier}/{attribution}/{split}/{shard}.tsv"
    conda:
        "../envs/pipeline.yaml"
    resources:
        **needs(CONFIG, "make_maps"),
    params:
        settings=lambda w: ATTRIBUTIONS[w.attribution],
        shards=CONFIG["shards"],
        precision=lambda w: described.map_precision(CONFIG, w.classifier, w.attribution),
        code=code_digest("make_maps"),
    script:
        "../pipeline/stages/make_maps.py"
