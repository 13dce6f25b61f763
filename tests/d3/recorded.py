"""Recorded answers, from tests/answers: those on D3's pages as printed, and the shapes around them."""

import json
from pathlib import Path

from d3async.d3.response import ApiResponse

FOLDER = Path(__file__).parents[1] / "answers"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def recorded(name: str) -> ApiResponse:
    told = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    body = told["text"] if "text" in told else json.dumps(told["body"])
    kind = told.get("content_type", "application/json")
    return ApiResponse(told["status"], {"content-type": f"{kind}; charset=utf-8"}, body.encode())
