"""`[profiles.NAME.files]`: how job files for one D3 are read, by the names of the options that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from d3async.credentials import Hidden

TABLE = "files"
LISTS = {"map": "Theirs=ours", "set": "column=Value"}
TEXTS = ("date_format", "time_zone", "server_time_zone", "id_column", "encoding", "delimiter", "sheet")


def options_in(table: Hidden) -> dict[str, str | tuple[str, ...]]:
    """What the `files` of a profile's *table* say, a list as a tuple."""
    found = table.get(TABLE, {})
    return {name: value if isinstance(value, str) else tuple(value) for name, value in found.items()}


def wrong_in(place: str, files: Hidden) -> Iterator[str]:
    """What is wrong with known options of *files*, which stand at *place*."""
    for name, sample in LISTS.items():
        texts = files.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            yield f'{place}.{name} must be a list of texts: ["{sample}"]'
            continue
        heads = [text.partition("=")[0].strip() for text in texts]
        yield from (
            f'{place}.{name} "{text}" lacks its =: write it like "{sample}"'
            for text, head in zip(texts, heads, strict=True)
            if not head or "=" not in text
        )
        twice = dict.fromkeys(head for head in heads if head and heads.count(head) > 1)
        yield from (f'{place}.{name} says twice what "{head}" is' for head in twice)
    yield from (
        f"{place}.{name} must be text"
        for name in TEXTS
        if name in files and not (isinstance(files[name], str) and files[name].strip())
    )
