from collections.abc import Callable

import pytest

from tests.conformance.families import Case, build


@pytest.fixture(scope="session")
def families() -> Callable[[str], Case]:
    """Builds the small model of a family by name."""
    return build
