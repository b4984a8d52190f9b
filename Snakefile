# The workflow at a glance: the configuration, the paths and the parts of the workflow, in the
# order of the data. The rules are in rules/*.smk. What they read and which settings they are
# given is decided in pipeline/planning.
import sys

from snakemake.utils import min_version

sys.path.insert(0, str(workflow.current_basedir))

from pipeline.planning import corrected, inputs, jobs, review, settings
from pipeline.planning.checks import checked_plan
from pipeline.planning.code_digest import code_digest
from pipeline.planning.plan import labels_path, maps_path
from pipeline.planning.rule_inputs import RuleInputs, weights_digest
from pipeline.resources.requests import needs

min_version("9.14")


# A configuration that names a dataset stands on its own; without one the demo runs.
if "dataset" not in config:

    configfile: f"{workflow.current_basedir}/config.yaml"


plan = checked_plan(workflow, config)
job = RuleInputs(plan)
CONFIG = plan.config


pathvars:
    experiment=plan.home,
    run=plan.root,
    downloads=CONFIG["downloads"]["folder"],
    method="{classifier}/{maps}/{refinement}",


localrules:
    all,
    download_archive,  # the nodes of a cluster may have no network
    download_weights,
    estimate,
    record_experiment,


rule all:
    default_target: True
    input:
        plan.targets(),


# Downloads, the manifest for training, and the ground truth for scoring and the upper bound.
include: "rules/dataset.smk"
# Networks and linear probes that are trained on image-level labels.
include: "rules/classifiers.smk"
# Class maps of each attribution method.
include: "rules/maps.smk"
# Boundary networks, and the random walk that propagates maps.
include: "rules/random_walk.smk"
# Class-agnostic regions: superpixels, or the user's masks.
include: "rules/regions.smk"
# Maps to pseudo-labels: background threshold, dense CRF, graph cut, regions.
include: "rules/pseudo_labels.smk"
# Segmentation networks that are trained on pseudo-labels, and their predictions.
include: "rules/segmentation.smk"
# Folders of unlabeled images.
include: "rules/folders.smk"
# Scores against the ground truth.
include: "rules/scores.smk"
# Quality of pseudo-labels, estimated without ground truth.
include: "rules/quality.smk"
# Comparison of attribution methods.
include: "rules/comparison.smk"
# Exports, report, scoreboard, and the estimate of a run.
include: "rules/outputs.smk"
# The upper bound: the same network, trained on masks. Made only if the configuration asks for it.
include: "rules/upper_bound.smk"


# No rule makes a path with a name that the configuration lacks. This stands behind the rules: in
# front of them, Snakemake would constrain paths before it replaces <run> and <method>, and the
# wildcards of these would match anything.
wildcard_constraints:
    classifier=plan.names_of("classifiers"),
    attribution=plan.names_of("attributions"),
    walk=plan.names_of("random_walks"),
    maps=plan.names_of_maps(),
    refinement=plan.names_of("refinements"),
    regions=plan.names_of("regions"),
    split=plan.splits,
    shard=r"\d+",
    seed=r"\d+",
    kind="pseudo_labels|predictions",
    format="voc|coco|yolo|png|soft",
    folder=plan.names_of("folders"),
    archive="voc2012|sbd",
    backbone="[^/]+",
