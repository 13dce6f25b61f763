"""How long the long fuzzing takes."""

import os

import pytest


@pytest.fixture
def fuzz_seconds() -> float:
    """Ten minutes, or FUZZ_SECONDS."""
    return float(os.environ.get("FUZZ_SECONDS", "600"))
