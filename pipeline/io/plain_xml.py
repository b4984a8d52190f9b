"""XML documents of users and tools, without document types."""

from xml.etree import ElementTree


class _DocumentTypeError(Exception):
    """A document has a document type."""


class _Plain(ElementTree.TreeBuilder):
    """XML builder that refuses document types, whose entities could grow without bound."""

    def doctype(self, name: str, _pubid: str | None, _system: str | None) -> None:
        raise _DocumentTypeError(name)


def parse_plain_xml(data: bytes, what: str) -> ElementTree.Element:
    """Return the root of an XML document.

    Parameters
    ----------
    data : bytes
    what : str
        Name of the document's kind, for the message.

    Raises
    ------
    ValueError
        If the document has a document type, or is not well-formed.
    """
    try:
        parser = ElementTree.XMLParser(target=_Plain())  # noqa: S314 - no entities, see _Plain
        return ElementTree.fromstring(data, parser)  # noqa: S314 - as above
    except _DocumentTypeError as error:
        raise ValueError(f"got a document type, expected {what} without one") from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"not well-formed XML ({error}), expected {what}") from error
