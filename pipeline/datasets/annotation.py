"""The objects of a PASCAL VOC annotation; objects in other notations are refused.

An annotation without objects is valid: its image shows no class. Therefore an object in another
notation must be an error. If it were skipped, the image would count as one without classes.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

#: Tags that describe the image, in the annotations of VOC and of common tools.
DESCRIPTIVE = frozenset(
    {
        "database", "depth", "filename", "folder", "height", "imagesize", "owner", "path",
        "segmented", "size", "source", "url", "width",
    }
)  # fmt: skip
#: Lower-case tags of objects and of their parts. One in another place is an object not read.
_OBJECTS = frozenset({"object", "objects", "obj", "objs", "bndbox", "bbox"})
_PARTS = _OBJECTS | {
    "annotation", "annotations", "box", "boxes", "categories", "category", "class", "classes",
    "item", "items", "label", "labels", "mask", "name", "names", "polygon", "shape", "tag", "tags",
}  # fmt: skip
EXPECTED = "an <object> with one <name> for each object, directly in <annotation>"


def objects_of(root: Element) -> list[tuple[str, Element]]:
    """Return the objects of an annotation with their names.

    Objects that LabelMe marks as deleted are left out.

    Parameters
    ----------
    root : Element
        The root of the document.

    Returns
    -------
    list of (str, Element)
        Empty if nothing in the annotation may be an object.

    Raises
    ------
    ValueError
        If anything may be an object but is not in VOC's notation. The message is the reason,
        without the path.
    """
    if root.tag != "annotation":
        raise ValueError(f"its root is <{root.tag}>, expected <annotation>")
    objects = [(_name(node), node) for node in root.findall("object") if not _is_deleted(node)]
    for stray in _strays(root):
        raise ValueError(f"it has <{stray}>, which is not read, expected {EXPECTED}")
    if not objects and (root.text or "").strip():
        raise ValueError(f"it has the text {root.text!r:.40}, expected {EXPECTED}, or nothing")
    return objects


def _name(node: Element) -> str:
    names = node.findall("name")
    if len(names) != 1:
        raise ValueError(f"an <object> has {len(names)} <name>, expected {EXPECTED}")
    name = (names[0].text or "").strip()
    if not name or len(names[0]):
        got = f"<{names[0][0].tag}>" if len(names[0]) else "nothing"
        raise ValueError(f"the <name> of an <object> holds {got}, expected the name of a class")
    return name


def _is_deleted(node: Element) -> bool:
    return (node.findtext("deleted") or "").strip() == "1"


def _strays(root: Element) -> Iterator[str]:
    """Yield the tags of elements that may be objects but are not read."""
    empty = root.find("object") is None
    yield from (key for key in root.keys() if _word(key) in _PARTS)  # noqa: SIM118 - an Element
    for child in root:
        if child.tag == "object":
            inside = [node for node in child.iter() if node is not child]
            yield from (node.tag for node in inside if _word(node.tag) in _OBJECTS - {"bndbox"})
        elif child.tag in DESCRIPTIVE:
            yield from (node.tag for node in child.iter() if _word(node.tag) in _OBJECTS)
        elif empty:
            yield child.tag
        else:
            yield from (node.tag for node in child.iter() if _word(node.tag) in _PARTS)


def _word(tag: str) -> str:
    """Return a tag in lower case, without its namespace."""
    return tag.rpartition("}")[2].casefold()
