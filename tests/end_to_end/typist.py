"""Reads the commands that a screen suggests, as a user would who types them."""

from __future__ import annotations

import re
import shlex

_LABELLED = re.compile(r"^(?:to go on|again|to settle|to mend) +(d3async .*)$", re.MULTILINE)
MEANT_ONCE = frozenset(
    {"--fresh", "--yes", "--limit", "--where", "--retry-unknown", "--allow-duplicates", "--allow-similar"}
)
"""Options that are said in so many words each time: no suggested command has them."""


def suggested(screen: str) -> list[list[str]]:
    """The words of each suggested command, without `d3async`. Fails where one of them is not safe to type."""
    found = [shlex.split(line)[1:] for line in _LABELLED.findall(screen)]
    for words in found:
        assert words[0] in {"run", "reconcile"}, words
        assert not MEANT_ONCE & set(words), words
        assert words[0] != "run" or "--continue" in words, words
    return found
