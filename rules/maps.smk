# Class maps of every attribution method.


rule make_maps:
    input:
        manifest=job.labeled_manifest,
        classes="<experiment>/dataset/classes.json",
        weights=job.map_weights,
        previous=job.previous_maps,
        features=job.map_features,
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
        settings=lookup("{attribution}", within=CONFIG["attributions"]),
        shards=CONFIG["shards"],
        precision=job.map_precision,
        code=code_digest("make_maps"),
    script:
        "../pipeline/stages/make_maps.py"
