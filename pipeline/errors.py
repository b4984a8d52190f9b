"""The one exception that is meant for the user's eyes, and words that several messages have."""

import difflib
import re
from collections.abc import Sequence
from functools import cache

#: Characters that a terminal or a page obeys instead of showing: control characters, line and
#: paragraph separators, embedding and override of the text's direction, lone surrogates.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: Of these, the ones that lay out a message.
LAYOUT = frozenset("\n\t")
#: Characters of a line of a message, and lines of a message.
LONGEST, MOST_LINES = 1000, 200
#: Characters of a misspelled word, and words beside it, that are worth a search for the nearest.
LONGEST_WORD, MOST_WORDS = 100, 2000


class UserError(Exception):
    """A mistake that the user can mend: what was got, what was expected, where, and the fix.

    A stage that raises it ends with the message alone, without a traceback. The message quotes
    names that others wrote: control characters are escaped and long lines are cut in the middle.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(readable(str(message)))


def readable(message: str) -> str:
    """Return a message that is safe to print: escaped, its lines and their number cut."""
    lines = message.split("\n")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - 1 :] = [f"... and {len(lines) - MOST_LINES + 1} more lines"]
    # Before, since a line may be large; after, since escapes are longer.
    return "\n".join(shortened(printable(shortened(line, 2 * LONGEST))) for line in lines)


def shortened(line: str, longest: int = LONGEST) -> str:
    """Return a text of at most ``longest`` characters; the middle of a longer one is left out."""
    if len(line) <= longest:
        return line
    # The start names the file, the end says what was expected.
    end = longest // 3
    return f"{line[: longest - end - 5]} ... {line[-end:]}"


def printable(text: str) -> str:
    r"""Return a text with control characters but newline and tab written as escapes (``\x1b``)."""
    return CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    return character if character in LAYOUT else character.encode("unicode_escape").decode()


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Name the known word that is nearest to a misspelled one; nothing, where none is near."""
    # The search takes the product of the lengths.
    if len(word) > LONGEST_WORD or len(known) > MOST_WORDS:
        return ""
    return _near(word, tuple(known))


@cache
def _near(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, [w for w in known if len(w) <= LONGEST_WORD], n=1)
    return f": did you mean {near[0]!r}?" if near else ""
