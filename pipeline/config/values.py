"""What no value of a configuration may be, whatever its key."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import CONTROL, shortened

#: Values of a configuration, sections included: a hundred times what the largest one has.
MOST_VALUES = 100_000


def value_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the values of a configuration, before anything else reads them.

    Aliases of YAML let a few lines unfold to any number of values, or hold themselves.

    Parameters
    ----------
    config : mapping
        As the user wrote it.
    """
    waiting: list[tuple[str, Any]] = [("", config)]
    seen = 0
    while waiting:
        place, value = waiting.pop()
        seen += 1
        if seen + len(waiting) > MOST_VALUES:
            yield (
                f"it unfolds to more than {MOST_VALUES} values, expected fewer: write it without "
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
            # Text over several lines describes; it names nothing.
            if CONTROL.search(text.replace("\n", "")):
                yield (
                    f"{place or 'a key'} has a control character in {shortened(text, 80)!r}, "
                    "expected plain text"
                )


def _below(place: str, key: Any) -> str:
    return shortened(f"{place}.{key}" if place else f"{key}", 120)
