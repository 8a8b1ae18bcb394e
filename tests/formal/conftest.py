"""What proofs need."""

import os

import pytest

from systolith.bench.formal.solver import missing_tools


@pytest.fixture(scope="module")
def tools():
    """With CI set, missing programs are a failure of the proof itself."""
    missing = missing_tools()
    if missing and not os.environ.get("CI"):
        pytest.skip(f"formal proofs need {', '.join(missing)}; run 'make setup'")
