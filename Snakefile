import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

sys.path.insert(0, str(workflow.current_basedir))

from pipeline.planning import settings as described
from pipeline.planning import jobs
from pipeline.planning import preflight
from pipeline.planning import inputs as sources
from pipeline.config.resolve import refuse_repeated_keys, resolve
from pipeline.runtime.copies import mend_times
from pipeline.planning.code_digest import code_digest
from pipeline.errors import UserError, readable
from pipeline.planning.network_check import check_networks
from pipeline.resources.requests import needs
from pipeline.report.records import known_records
from pipeline.planning.plan import Plan, labels_path, maps_path, use_own_package

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
SEGMENTATION = CONFIG.get("segmentation")
PREDICTION = CONFIG["prediction"]
FOLDERS = CONFIG["folders"]
DOWNLOADS = CONFIG["downloads"]


# A path with another name than the configuration's is no result that a rule makes.
pathvars:
    experiment=plan.home,
    run=plan.root,
    downloads=CONFIG["downloads"]["folder"],
    method="{classifier}/{maps}/{refinement}",


wildcard_constraints:
    classifier=plan.names_of("classifiers"),
    attribution=plan.names_of("attributions"),
    walk=plan.names_of("random_walks"),
    maps=plan.names_of_maps(),
    refinement=plan.names_of("refinements"),
    split=plan.splits,
    shard=r"\d+",
    seed=r"\d+",
    kind="pseudo_labels|predictions",
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
        "<experiment>/logs/estimate.log",
    conda:
        "envs/pipeline.yaml"
    params:
        config=CONFIG,
        snakefile=str(workflow.main_snakefile),
        manifest="<experiment>/dataset/manifest.csv",
        classes="<experiment>/dataset/classes.json",
    script:
        "pipeline/stages/estimate.py"


include: "rules/dataset.smk"
include: "rules/classifiers.smk"
include: "rules/folders.smk"
include: "rules/maps.smk"
include: "rules/random_walk.smk"
include: "rules/labels.smk"
include: "rules/segmentation.smk"
include: "rules/scores.smk"
include: "rules/quality.smk"
include: "rules/attribution.smk"
include: "rules/outputs.smk"
