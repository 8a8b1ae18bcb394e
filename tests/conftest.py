"""Fixtures, options and markers that every test can use."""

import os
from pathlib import Path

import numpy as np
import pytest

from systolith.arch.presets import PRESETS

ROOT = Path(__file__).parents[1]
SHARED_MODELS = ROOT.parent / "shared" / "models"
DEFAULT_SEED = 20260
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


def pytest_addoption(parser):
    group = parser.getgroup("systolith")
    group.addoption(
        "--seed",
        type=int,
        default=DEFAULT_SEED,
        help="seed of every random choice (default: %(default)s)",
    )
    group.addoption(
        "--waves", action="store_true", help="write waveforms to build/waves/<name of the test>"
    )
    group.addoption(
        "--shared-models",
        type=Path,
        default=SHARED_MODELS,
        help="folder of the benchmark models (default: ../shared/models beside the checkout)",
    )


def pytest_report_header(config):
    return f"systolith: --seed={config.getoption('--seed')}"


def pytest_collection_modifyitems(config, items):
    """Deselect tests of models that a clone does not have; where CI runs, let them fail."""
    if IN_CI or _shared_models(config).is_dir():
        return
    without = [item for item in items if item.get_closest_marker("shared_models")]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if not item.get_closest_marker("shared_models")]


def pytest_runtest_setup(item):
    if item.get_closest_marker("shared_models") and not _shared_models(item.config).is_dir():
        pytest.fail(_absence(item.config), pytrace=False)


def pytest_terminal_summary(terminalreporter, config):
    if not IN_CI and not _shared_models(config).is_dir():
        terminalreporter.write_line(f"{_absence(config)}; tests that read them were deselected")


@pytest.fixture
def seed(request):
    """Seed of this run, `--seed`."""
    return request.config.getoption("--seed")


@pytest.fixture
def rng(seed):
    """Random generator that starts afresh in every test."""
    return np.random.default_rng(seed)


@pytest.fixture(params=PRESETS, ids=str)
def preset(request):
    """Each of the named configurations in turn."""
    return PRESETS[request.param]


@pytest.fixture
def tiny():
    """The smallest named configuration."""
    return PRESETS["tiny-4x4"]


@pytest.fixture
def edge():
    """The configuration that performance figures are quoted for."""
    return PRESETS["edge-16x16"]


@pytest.fixture
def waves(request):
    """Folder for the waveforms of this test, or None unless `--waves` is given."""
    if not request.config.getoption("--waves"):
        return None
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in request.node.name)
    folder = ROOT / "build" / "waves" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shared_models(request):
    """Folder of the benchmark models; tests that use it carry the marker of the same name."""
    return _shared_models(request.config)


def _shared_models(config):
    return config.getoption("--shared-models")


def _absence(config):
    return f"Benchmark models must be in {_shared_models(config)}, which does not exist"
