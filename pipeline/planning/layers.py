"""Inner layers of networks that the requested maps are made of."""

from pipeline.planning.plan import Plan


def layers_of_maps(plan: Plan) -> list[tuple[str, str, str]]:
    """Return classifier, attribution and layer of all maps whose attribution has a `layer`."""
    return [
        (classifier, attribution, layer)
        for classifier, attribution in _sources(plan)
        if (layer := plan.config["attributions"][attribution].get("layer"))
    ]


def aligned_maps(plan: Plan) -> list[tuple[str, str, str | None]]:
    """Return classifier, attribution and layer, if any, of all maps that are aligned."""
    attributions = plan.config["attributions"]
    return [
        (classifier, attribution, attributions[attribution].get("layer"))
        for classifier, attribution in _sources(plan)
        if attributions[attribution].get("align")
    ]


def _sources(plan: Plan) -> list[tuple[str, str]]:
    """Return classifier and attribution of all maps, before a random walk."""
    paths = [path.partition("+")[0].partition("/") for path in [*plan.maps, *plan.compared]]
    return list(dict.fromkeys((classifier, attribution) for classifier, _, attribution in paths))
