"""The unit and the manifest in samples/ start a worker that there is, and give it the time it needs to end."""

import json
import re
import shlex
from pathlib import Path

from d3async.cli.submit_worker_cancel import worker_command

SAMPLES = Path(__file__).parents[2] / "samples"
UNIT = (SAMPLES / "d3async-worker.service").read_text()
MANIFEST = (SAMPLES / "d3async-worker.yaml").read_text()
SETTINGS = {"D3_CONFIG", "D3_FLEET_URL_FILE"}


def _options(words: list[str]) -> dict[str, object]:
    return dict(worker_command.make_context("worker", list(words)).params)


def _manifest_words() -> list[str]:
    return [*_listed("command")[2:], *_listed("args")]


def _listed(name: str) -> list[str]:
    found = re.search(rf"^ *{name}: (\[.*\])$", MANIFEST, re.MULTILINE)
    assert found is not None
    return list(json.loads(found[1]))


def test_the_unit_starts_a_worker_with_options_it_has() -> None:
    started = re.search(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)
    assert started is not None
    program, name, *words = shlex.split(started[1])

    assert program.endswith("/d3async")
    assert name == "worker"
    assert _options(words)["metrics_port"] == 9471


def test_the_unit_waits_longer_than_the_worker_drains() -> None:
    waits = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert waits is not None

    assert int(waits[1]) > 30
    assert "KillSignal=SIGTERM" in UNIT


def test_the_manifest_starts_a_worker_with_options_it_has() -> None:
    assert _listed("command") == ["d3async", "worker"]
    assert _options(_manifest_words())["metrics_host"] == "0.0.0.0"


def test_the_manifest_waits_longer_than_the_worker_drains() -> None:
    waits = re.search(r"terminationGracePeriodSeconds: (\d+)", MANIFEST)
    assert waits is not None

    drains = _options(_manifest_words())["drain_timeout"]
    assert isinstance(drains, float)
    assert int(waits[1]) > drains


def test_both_name_the_settings_and_hold_no_secret() -> None:
    for text in (UNIT, MANIFEST):
        assert set(re.findall(r"D3_\w+", text)) == SETTINGS
        assert "postgresql://" not in text
        assert "\t" not in text
