"""Inner layers of networks that the requested maps are made of."""

from pipeline.planning.plan import Plan


def layers_of_maps(plan: Plan) -> list[tuple[str, str, str]]:
    """Return classifier, attribution and layer of all maps whose attribution has a `layer`."""
    found = []
    for path in dict.fromkeys([*plan.maps, *plan.compared]):
        classifier, _, attribution = path.partition("+")[0].partition("/")
        layer = plan.config["attributions"][attribution].get("layer")
        found += [(classifier, attribution, layer)] if layer else []
    return found
