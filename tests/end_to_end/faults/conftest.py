"""Every fault meets both ways of sending: an app's, through a session, and our programs', past it."""

from typing import Any

import pytest


@pytest.fixture(scope="module", params=[False, True], ids=["through a session", "direct"])
def direct(request: Any) -> bool:
    return bool(request.param)
