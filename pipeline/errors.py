"""The exception for mistakes of the user, and helpers for its messages."""

import difflib
import re
from collections.abc import Sequence
from functools import cache

#: Characters that a terminal or a page does not print as they are: control characters, line and
#: paragraph separators, embedding and override of text direction, lone surrogates.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: Control characters that are allowed in a message.
LAYOUT = frozenset("\n\t")
#: Maximum number of characters in a line of a message, and of lines in a message.
MAX_LENGTH, MAX_LINES = 1000, 200
#: Maximum length of a misspelled word, and number of known words, for a search of the nearest one.
MAX_WORD_LENGTH, MAX_WORDS = 100, 2000


class UserError(Exception):
    """A mistake that the user can fix. The message says where, what was expected, and the fix.

    A stage that raises it prints only the message, without a traceback. Messages can quote names
    from outside: control characters are escaped and long lines are cut in the middle.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(readable(str(message)))


def readable(message: str) -> str:
    """Return a message that is safe to print: escaped, with a limited length."""
    lines = message.split("\n")
    if len(lines) > MAX_LINES:
        lines[MAX_LINES - 1 :] = [f"... and {len(lines) - MAX_LINES + 1} more lines"]
    # Cut before escaping, since a line may be huge, and after it, since escapes are longer.
    return "\n".join(shortened(printable(shortened(line, 2 * MAX_LENGTH))) for line in lines)


def shortened(line: str, longest: int = MAX_LENGTH) -> str:
    """Return a text of at most ``longest`` characters; a longer one loses its middle."""
    if len(line) <= longest:
        return line
    # The start names the file, the end says what was expected.
    end = longest // 3
    return f"{line[: longest - end - 5]} ... {line[-end:]}"


def printable(text: str) -> str:
    r"""Return a text with control characters as escapes (``\x1b``), except newline and tab.

    Examples
    --------
    >>> print(printable("a" + chr(27) + "b"))
    a\x1bb
    """
    return CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    return character if character in LAYOUT else character.encode("unicode_escape").decode()


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a hint with the known word nearest to a misspelled one; empty if none is near.

    Examples
    --------
    >>> did_you_mean("sedd", ["seed", "shards"])
    ": did you mean 'seed'?"
    """
    # The time of the search grows with the product of the lengths.
    if len(word) > MAX_WORD_LENGTH or len(known) > MAX_WORDS:
        return ""
    return _near(word, tuple(known))


@cache
def _near(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, [w for w in known if len(w) <= MAX_WORD_LENGTH], n=1)
    return f": did you mean {near[0]!r}?" if near else ""
