# Class-agnostic regions: superpixels, or masks that users made.


rule make_regions:
    input:
        manifest=job.manifest,
        classes="<experiment>/dataset/classes.json",
    output:
        regions="<run>/regions/{regions}/{split}/{shard}.safetensors",
    log:
        "<run>/logs/make_regions/{regions}/{split}/{shard}.log",
    benchmark:
        "<run>/benchmarks/make_regions/{regions}/{split}/{shard}.tsv"
    priority: 1  # damaged masks are found before networks are trained
    conda:
        "../envs/pipeline.yaml"
    threads: 8
    resources:
        **needs(CONFIG, "make_regions"),
    params:
        settings=lookup("{regions}", within=CONFIG.get("regions", {})),
        shards=CONFIG["shards"],
        files=job.region_files_digest,
        code=code_digest("make_regions"),
    script:
        "../pipeline/stages/make_regions.py"
