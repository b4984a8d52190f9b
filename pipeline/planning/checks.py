"""The checks that run whenever the Snakefile is read, before there is a job."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

from pipeline.config.resolve import refuse_duplicate_keys, resolve
from pipeline.errors import UserError, readable
from pipeline.planning import preflight
from pipeline.planning.network_check import check_networks
from pipeline.planning.plan import Plan, import_from_checkout
from pipeline.planning.review import check_review, unknown_classes, unused_rows
from pipeline.runtime.copies import restore_times

#: Snakemake's logger, which prints to the terminal while the Snakefile is read.
logger = logging.getLogger("snakemake.logging")
#: Digests of the configurations whose networks could be built.
NETWORKS = Path(".snakemake/wsss-networks")


def checked_plan(workflow: Any, config: Mapping[str, Any]) -> Plan:
    """Check the configuration, this machine and the working folder, and return the plan.

    Jobs are separate processes that read the Snakefile again. They check only the configuration.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    config : mapping
        The configuration as the user wrote it.

    Returns
    -------
    Plan

    Raises
    ------
    WorkflowError
        With a message for the user.
    """
    import_from_checkout()
    preflight.use_utf8()
    preflight.quote_interpreter()
    try:
        refuse_duplicate_keys(workflow.configfiles)
        plan = Plan(resolve(config))
        if workflow.is_main_process:
            _check_surroundings(plan, workflow.current_basedir)
            check_networks(plan, NETWORKS)
        check_review(plan)
        if workflow.is_main_process:
            for warning in (unused_rows(plan), *unknown_classes(plan)):
                if warning:
                    logger.warning(warning)
    except UserError as error:
        raise WorkflowError(error) from error
    return plan


def _check_surroundings(plan: Plan, checkout: Any) -> None:
    """Check paths, user files and locks, and restore the times of results in a copy."""
    surroundings = [sys.executable, checkout, Path.cwd()]
    if problems := list(preflight.problems(plan, surroundings)):
        raise WorkflowError(readable("; ".join(problems)))
    if locked := preflight.announce_run(plan.home):
        logger.warning(locked)
    restore_times()
    if problems := list(preflight.future_results(plan)):
        raise WorkflowError(readable("; ".join(problems)))
