"""The way of one CSV row from the file to its outcome: few files, and CONTRIBUTING lists those to read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import d3async

if TYPE_CHECKING:
    from tests.end_to_end.ground import Site

ROOT = Path(d3async.__file__).parent
CONTRIBUTING = ROOT.parent / ".github" / "CONTRIBUTING.md"
MOST_LISTED, MOST_ENTERED = 20, 80
PROFILED = """
import json, sys, threading
entered = set()
def look(frame, event, argument):
    file = frame.f_code.co_filename
    if event == "call" and file not in entered and not imported(frame):
        entered.add(file)
def imported(frame):
    while frame is not None and frame.f_code.co_name != "_find_and_load":
        frame = frame.f_back
    return frame is not None
threading.setprofile(look)
sys.setprofile(look)
from d3async.cli.main import main
try:
    main()
finally:
    sys.setprofile(None)
    json.dump(sorted(entered), open("entered.json", "w"))
"""


def listed() -> list[str]:
    way = CONTRIBUTING.read_text("utf-8").split("## One row's way")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([a-z0-9_/]+\.py)`", way, re.MULTILINE)


def test_one_row_goes_through_few_files_and_those_to_read_are_listed(d3: Site, tmp_path: Path) -> None:
    row = "20220125-1,Call the user,Now,admin user,2027-05-01 12:00:00\n"
    (tmp_path / "t.csv").write_text("incident,name,description,assignee,due\n" + row)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
    words = [sys.executable, "-c", PROFILED, "run", "t.csv", "--yes"]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={**clean, "D3_CONFIG": os.devnull, **d3.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    files = json.loads((tmp_path / "entered.json").read_text())
    entered = {
        Path(file).relative_to(ROOT).as_posix()
        for file in files
        if file.startswith(f"{ROOT}{os.sep}") and file.endswith(".py")
    }
    assert len(entered) <= MOST_ENTERED, sorted(entered)
    assert 10 <= len(listed()) <= MOST_LISTED
    assert set(listed()) - entered == set()
