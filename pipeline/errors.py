"""The one exception that is meant for the user's eyes, and a word that several of them have."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """A mistake that the user can mend: what was got, what was expected, where, and the fix.

    A stage that raises it ends with the message alone, without a traceback.
    """


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Name the known word that is nearest to a misspelt one; nothing, where none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {near[0]!r}?" if near else ""
