"""The objects of a PASCAL VOC annotation; objects in other notations are refused.

An annotation without objects is valid: its image shows no class. Therefore an object in another
notation must be an error. If it were skipped, the image would count as one without classes.
"""

import re
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element

#: Tags that describe the image, in the annotations of VOC and of common tools.
DESCRIPTIVE = frozenset(
    {
        "database", "depth", "filename", "folder", "height", "imagesize", "owner", "path",
        "segmented", "size", "source", "url", "width",
    }
)  # fmt: skip
#: Lower-case tags of objects, and of their parts. In any other place, they mark an unread object.
_OBJECT_TAGS = frozenset({"object", "objects", "obj", "objs", "bndbox", "bbox"})
_OBJECT_TERMS = _OBJECT_TAGS | {
    "annotation", "annotations", "box", "boxes", "categories", "category", "class", "classes",
    "detection", "detections", "instance", "instances", "item", "items", "label", "labels", "mask",
    "name", "names", "polygon", "region", "regions", "shape", "tag", "tags", "target", "targets",
}  # fmt: skip
#: Further tags inside these descriptions.
_DESCRIPTION_PARTS = {
    "owner": frozenset({"flickrid", "name"}),
    "source": frozenset(
        {"annotation", "flickrid", "image", "sourceannotation", "sourceimage", "submitted"}
    ),
}
#: Attributes of the root that tools write, and values that name no class.
_ATTRIBUTES = frozenset({"created", "date", "id", "modified", "verified", "version"})
_CLASSLESS_VALUE = re.compile(r"[\W\d_]*|\d[\d:.-]*T[\d:.+-]*Z?|yes|no|true|false", re.IGNORECASE)
EXPECTED = "an <object> with one <name> for each object, directly in <annotation>"


def objects_of(root: Element, classes: Iterable[str] = ()) -> list[tuple[str, Element]]:
    """Return the objects of an annotation with their names.

    Objects that LabelMe marks as deleted are left out.

    Parameters
    ----------
    root : Element
        The root of the document.
    classes : iterable of str
        Class names. An element or attribute with such a name counts as an object.

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
    terms = _OBJECT_TERMS | {name.strip().casefold() for name in classes}
    for unread in _unread_objects(root, terms):
        raise ValueError(f"it has {unread}, which is not read, expected {EXPECTED}")
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


def _unread_objects(root: Element, terms: frozenset[str]) -> Iterator[str]:
    """Yield descriptions of parts that may be objects but are not read."""
    empty = root.find("object") is None
    yield from _stray_texts(root)
    yield from (
        f"the attribute {key}={value!r:.40}"
        for key, value in root.items()
        if (empty and not _is_harmless(key, value)) or {_local_name(key), value.casefold()} & terms
    )
    for child in root:
        if child.tag == "object":
            inside = [node for node in child.iter() if node is not child]
            yield from _attributes(child, terms)
            yield from (
                _tag(node) for node in inside if _local_name(node.tag) in _OBJECT_TAGS - {"bndbox"}
            )
        elif empty and child.tag not in DESCRIPTIVE:
            yield _tag(child)
        else:
            yield from _class_names(child, terms)


def _class_names(child: Element, terms: frozenset[str]) -> Iterator[str]:
    """Yield the tags inside a description that may name a class."""
    known = DESCRIPTIVE | _DESCRIPTION_PARTS.get(child.tag, frozenset())
    for node in child.iter():
        yield from _attributes(node, terms)
        if _local_name(node.tag) not in known:
            content = (node.text or "").strip().casefold()
            if {_local_name(node.tag), content} & terms:
                yield _tag(node)


def _attributes(node: Element, terms: frozenset[str]) -> Iterator[str]:
    """Yield the attributes of an element that may name a class."""
    for key, value in node.items():
        if {_local_name(key), value.strip().casefold()} & terms:
            yield f"the attribute {key}={value!r:.40} of <{node.tag}>"


def _stray_texts(root: Element) -> Iterator[str]:
    """Yield the texts next to elements, and the text of the root."""
    for node in root.iter():
        around = [node.text if node is root or len(node) else None, *(c.tail for c in node)]
        yield from (f"the text {text.strip()!r:.40}" for text in around if text and text.strip())


def _is_harmless(key: str, value: str) -> bool:
    """Return whether a root attribute cannot be a label (a schema, a number, yes or no)."""
    if key.startswith("{http://www.w3.org/"):
        return True
    return _local_name(key) in _ATTRIBUTES and _CLASSLESS_VALUE.fullmatch(value.strip()) is not None


def _tag(node: Element) -> str:
    return f"<{node.tag}>"


def _local_name(tag: str) -> str:
    """Return a tag in lower case, without its namespace."""
    return tag.rpartition("}")[2].casefold()
