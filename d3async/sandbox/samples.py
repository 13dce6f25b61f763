"""Finds the sample files, and reads the links the sandbox starts with."""

import csv
from pathlib import Path

_HERE = Path(__file__).resolve()
# A wheel carries them as d3async/samples; in a checkout they lie beside d3async.
_PLACES = (_HERE.parents[1] / "samples", _HERE.parents[2] / "samples")
SEED = "links_seed.csv"


def sample(name: str) -> Path:
    """Give the path of the sample file *name*; raises FileNotFoundError."""
    for place in _PLACES:
        if (place / name).is_file():
            return place / name
    raise FileNotFoundError(f"no sample {name!r} in {' or '.join(map(str, _PLACES))}")


def read_links(path: Path) -> list[tuple[str, str]]:
    """Read `source,linked` pairs, one a line under that header; raises ValueError for anything else."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
            links = [(source.strip(), linked.strip()) for source, linked in rows]
    except (ValueError, csv.Error) as problem:
        raise ValueError(f"{path} is no list of links: {problem}") from problem
    if header != ["source", "linked"]:
        raise ValueError(f"{path} is no list of links: its first line is not source,linked")
    return links
