"""Checks that apply to every value of a configuration, whatever its key."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import CONTROL, shortened

#: Maximum number of values, sections included: 100 times that of the largest configuration.
MOST_VALUES = 100_000


def value_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems of the values of a configuration, before any other code reads them.

    With YAML aliases a few lines can expand to any number of values, or refer to themselves.

    Parameters
    ----------
    config : mapping
        The configuration as the user wrote it.
    """
    waiting: list[tuple[str, Any]] = [("", config)]
    seen = 0
    while waiting:
        place, value = waiting.pop()
        seen += 1
        if seen + len(waiting) > MOST_VALUES:
            yield (
                f"it expands to more than {MOST_VALUES} values, expected fewer: write it without "
                "aliases (*name)"
            )
            return
        texts = [value] if isinstance(value, str) else []
        if isinstance(value, Mapping):
            waiting += [(_below(place, key), item) for key, item in value.items()]
            texts = [key for key in value if isinstance(key, str)]
        elif isinstance(value, (list, tuple)):
            waiting += [(place, item) for item in value]
        for text in texts:
            # Text of several lines is a description, not a name.
            if CONTROL.search(text.replace("\n", "")):
                yield (
                    f"{place or 'a key'} has a control character in {shortened(text, 80)!r}, "
                    "expected plain text"
                )


def _below(place: str, key: Any) -> str:
    return shortened(f"{place}.{key}" if place else f"{key}", 120)
