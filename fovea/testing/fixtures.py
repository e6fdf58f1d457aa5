"""The pytest plugin of the contract kit: ``def test_it(contract): contract("backbone", "my_vit")``.

Importing it takes no time: a check is imported when it is used.
"""

from collections.abc import Callable
from typing import Any

import pytest

from fovea import testing

Contract = Callable[..., None]


@pytest.fixture
def contract() -> Contract:
    """Give ``contract(kind, name, **settings)``, which calls the check of a kind."""

    def check(kind: str, name: str, /, **settings: Any) -> None:
        known = [one.removeprefix("check_") for one in testing.__all__]
        if kind not in known:
            raise ValueError(f"no kind '{kind}'; known are {', '.join(known)}")
        getattr(testing, f"check_{kind}")(name, **settings)

    return check
