"""Checks of the names of images and classes, which appear in file names, lists and pages."""

import os
import unicodedata
from pathlib import Path

from pipeline.errors import CONTROL

#: Maximum number of bytes of a file name, and of a path, on Linux.
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095
#: The longest file name that a stage derives from an id: soft labels while they are written.
LONGEST_NAME = ".{}.safetensors.partial"
#: Maximum number of bytes of an id.
MAX_ID_BYTES = MAX_NAME_BYTES - len(LONGEST_NAME.format(""))
#: Maximum number of characters of a class name, for legends and tables.
MAX_CLASS_CHARACTERS = 200
#: Zero-width characters that join or separate the letters of some scripts, and emoji.
JOINERS = "\u200c\u200d"
#: Scripts with joiners, by the first word of the Unicode names of their letters.
JOINING_SCRIPTS = frozenset(
    [
        "ARABIC",
        "SYRIAC",
        "MONGOLIAN",
        "NKO",
        "DEVANAGARI",
        "BENGALI",
        "GURMUKHI",
        "GUJARATI",
        "ORIYA",
        "TAMIL",
        "TELUGU",
        "KANNADA",
        "MALAYALAM",
        "SINHALA",
        "KHMER",
        "MYANMAR",
        "TIBETAN",
    ]
)
#: Letters and marks without a shape: Hangul fillers, the Braille blank, the grapheme joiner.
INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"


def text_problem(name: str) -> str | None:
    """Return an error text if a name is not plain text, otherwise None.

    Control characters would break lines of lists and control terminals. Invisible characters, and
    those that override the direction of text, make names look like other names.
    """
    if any("\udc80" <= character <= "\udcff" for character in name):
        return "its bytes are not UTF-8, expected a name in UTF-8: rename it"
    if found := CONTROL.search(name):
        code = f"U+{ord(found.group()):04X}"
        return f"it has the control character {code}, expected printable characters: rename it"
    if hidden := next((name[k] for k in range(len(name)) if _is_invisible(name, k)), None):
        code = f"U+{ord(hidden):04X}"
        return f"it has the invisible character {code}, expected visible characters: rename it"
    return None


def _is_invisible(name: str, at: int) -> bool:
    """Return whether a character of a name has no shape, and no effect on its neighbors."""
    if name[at] in JOINERS:
        return not (0 < at < len(name) - 1 and _joins(name[at - 1]) and _joins(name[at + 1]))
    return name[at] in INVISIBLE or unicodedata.category(name[at]) == "Cf"


def _joins(character: str) -> bool:
    """Return whether a joiner beside a character is intended: a letter, or a part of an emoji."""
    kind = unicodedata.category(character)
    if kind[0] in "LM" and unicodedata.name(character, "").partition(" ")[0] in JOINING_SCRIPTS:
        return True
    # An emoji, its skin tone, or the selector of its color form.
    return kind in {"So", "Sk"} or character in "\ufe0f\u2640\u2642"


def image_problem(image_id: str, path: Path) -> str | None:
    """Return an error text if an image's id or path is invalid, otherwise None."""
    if problem := text_problem(image_id):
        return problem
    length = len(os.fsencode(image_id))
    if length > MAX_ID_BYTES:
        return (
            f"its name (folders included, joined by __) has {length} bytes, expected at most "
            f"{MAX_ID_BYTES}, since names of result files are "
            f"{MAX_NAME_BYTES - MAX_ID_BYTES} bytes longer and the limit is {MAX_NAME_BYTES}: "
            "shorten it"
        )
    whole = len(os.fsencode(path.absolute()))
    if whole > MAX_PATH_BYTES:
        return f"its full path has {whole} bytes, expected at most {MAX_PATH_BYTES}: shorten it"
    return None


def class_problem(name: str) -> str | None:
    """Return an error text if a class name is invalid, otherwise None.

    Examples
    --------
    >>> class_problem("potted plant") is None
    True
    >>> class_problem("x" * 201)
    'its name has 201 characters, expected at most 200: shorten it'
    """
    if len(name) > MAX_CLASS_CHARACTERS:
        return (
            f"its name has {len(name)} characters, expected at most {MAX_CLASS_CHARACTERS}: "
            "shorten it"
        )
    return text_problem(name)
