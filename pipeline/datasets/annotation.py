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
#: Lower-case tags of objects and of their parts. One in another place is an object not read.
_OBJECTS = frozenset({"object", "objects", "obj", "objs", "bndbox", "bbox"})
_PARTS = _OBJECTS | {
    "annotation", "annotations", "box", "boxes", "categories", "category", "class", "classes",
    "detection", "detections", "instance", "instances", "item", "items", "label", "labels", "mask",
    "name", "names", "polygon", "region", "regions", "shape", "tag", "tags", "target", "targets",
}  # fmt: skip
#: What VOC's and other tools' descriptions of a photograph hold besides.
_USUAL = {
    "owner": frozenset({"flickrid", "name"}),
    "source": frozenset(
        {"annotation", "flickrid", "image", "sourceannotation", "sourceimage", "submitted"}
    ),
}
#: Attributes of the root that tools write, and values that name no class.
_ATTRIBUTES = frozenset({"created", "date", "id", "modified", "verified", "version"})
_PLAIN = re.compile(r"[\W\d_]*|\d[\d:.-]*T[\d:.+-]*Z?|yes|no|true|false", re.IGNORECASE)
EXPECTED = "an <object> with one <name> for each object, directly in <annotation>"


def objects_of(root: Element, classes: Iterable[str] = ()) -> list[tuple[str, Element]]:
    """Return the objects of an annotation with their names.

    Objects that LabelMe marks as deleted are left out.

    Parameters
    ----------
    root : Element
        The root of the document.
    classes : iterable of str
        Names that are no description of a photograph, wherever they stand.

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
    words = _PARTS | {name.strip().casefold() for name in classes}
    for stray in _strays(root, words):
        raise ValueError(f"it has {stray}, which is not read, expected {EXPECTED}")
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


def _strays(root: Element, words: frozenset[str]) -> Iterator[str]:
    """Yield descriptions of parts that may be objects but are not read."""
    empty = root.find("object") is None
    yield from _texts(root)
    yield from (
        f"the attribute {key}={value!r:.40}"
        for key, value in root.items()
        if (empty and not _is_harmless(key, value)) or {_word(key), value.casefold()} & words
    )
    for child in root:
        if child.tag == "object":
            inside = [node for node in child.iter() if node is not child]
            yield from _attributes(child, words)
            yield from (_tag(node) for node in inside if _word(node.tag) in _OBJECTS - {"bndbox"})
        elif empty and child.tag not in DESCRIPTIVE:
            yield _tag(child)
        else:
            yield from _named(child, words)


def _named(child: Element, words: frozenset[str]) -> Iterator[str]:
    """Yield what may name a class in a child of the root that is no object."""
    known = DESCRIPTIVE | _USUAL.get(child.tag, frozenset())
    for node in child.iter():
        yield from _attributes(node, words)
        if _word(node.tag) not in known:
            content = (node.text or "").strip().casefold()
            if {_word(node.tag), content} & words:
                yield _tag(node)


def _attributes(node: Element, words: frozenset[str]) -> Iterator[str]:
    """Yield the attributes of an element that may name a class."""
    for key, value in node.items():
        if {_word(key), value.strip().casefold()} & words:
            yield f"the attribute {key}={value!r:.40} of <{node.tag}>"


def _texts(root: Element) -> Iterator[str]:
    """Yield the texts that stand beside elements, and that of the root."""
    for node in root.iter():
        around = [node.text if node is root or len(node) else None, *(c.tail for c in node)]
        yield from (f"the text {text.strip()!r:.40}" for text in around if text and text.strip())


def _is_harmless(key: str, value: str) -> bool:
    """Return whether an attribute of the root cannot be a label: of a schema, a number, or yes."""
    if key.startswith("{http://www.w3.org/"):
        return True
    return _word(key) in _ATTRIBUTES and _PLAIN.fullmatch(value.strip()) is not None


def _tag(node: Element) -> str:
    return f"<{node.tag}>"


def _word(tag: str) -> str:
    """Return a tag in lower case, without its namespace."""
    return tag.rpartition("}")[2].casefold()
