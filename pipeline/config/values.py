"""Checks that apply to every value of a configuration, whatever its key."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import CONTROL, shortened

#: Maximum number of values, sections included: 100 times that of the largest configuration.
MAX_VALUES = 100_000
#: Keys whose text may have several lines: it describes. All other text names something.
DESCRIPTIONS = frozenset({"threshold_source"})
#: Name in the setting ``frozen`` for the whole backbone.
ALL_MODULES = "all"


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
        if seen + len(waiting) > MAX_VALUES:
            yield (
                f"it expands to more than {MAX_VALUES} values, expected fewer: write it without "
                "aliases (*name)"
            )
            return
        if isinstance(value, str):
            yield from _text_problems(place, value, place.rpartition(".")[2] in DESCRIPTIONS)
        elif isinstance(value, Mapping):
            waiting += [(_below(place, key), item) for key, item in value.items()]
            for key in value:
                if isinstance(key, str):
                    yield from _text_problems(place, key, several_lines=False)
        elif isinstance(value, (list, tuple)):
            waiting += [(place, item) for item in value]


def _text_problems(place: str, text: str, several_lines: bool) -> Iterator[str]:
    quoted = f"in {shortened(text, 80)!r}"
    if CONTROL.search(text.replace("\n", "")):
        yield f"{place or 'a key'} has a control character {quoted}, expected plain text"
    elif "\n" in text and not several_lines:
        yield (
            f"{place or 'a key'} has a line break {quoted}, expected text in one line: in YAML "
            "write it without | or > before it"
        )


def _below(place: str, key: Any) -> str:
    return shortened(f"{place}.{key}" if place else f"{key}", 120)
