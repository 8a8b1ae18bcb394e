"""Documents show the figures of the files beside them, and no others."""

import re
from pathlib import Path

import pytest

from systolith import gateware
from systolith.arch.blocks import replace_block
from systolith.bench import campaign_totals, suite_json, suite_report, verification_plan

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
FILE = re.compile(r"`([\w./-]+\.(?:cpp|hpp|json|md|onnx|py|tflite|toml|v))`")


@pytest.fixture(scope="module")
def figures():
    """What the suite measured."""
    return suite_json.read_report([DOCS / "results.json"])


def test_results_are_those_of_the_suite(figures):
    assert (DOCS / "RESULTS.md").read_text() == suite_report.document(figures)


def test_the_first_page_shows_them(figures):
    page = README.read_text()
    assert page == replace_block(page, suite_report.BLOCK, suite_report.summary(figures.networks))


def test_boards_are_those_that_were_built():
    from systolith.boards import report

    page = (DOCS / "BOARDS.md").read_text()
    text = report.render(DOCS / "boards.json", DOCS / "results.json")
    assert page == replace_block(page, report.BLOCK, text.splitlines())


def test_campaigns_are_those_that_were_run(tmp_path):
    page = DOCS / "VERIFICATION.md"
    copy = tmp_path / page.name
    copy.write_text(page.read_text())
    campaign_totals.render(campaign_totals.Totals(DOCS / "campaigns.json"), copy)
    assert copy.read_text() == page.read_text()


def test_the_plan_is_that_of_the_tests_proofs_and_figures():
    page = (DOCS / "VERIFICATION.md").read_text()
    plan = verification_plan.lines(DOCS, DOCS.parent / verification_plan.TESTS)
    assert page == replace_block(page, verification_plan.BLOCK, plan)


def test_the_plan_has_every_module_of_the_gateware():
    (folder,) = gateware.__path__
    modules = {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}
    parts = (*verification_plan.PARTS, verification_plan.SHARED)
    assert {module for part in parts for module in part.modules} == modules


IN_PACKAGES = {
    "config.toml",
    "manifest.json",
    "registers/registers.json",
    "rtl/systolith.v",
    "rtl/systolith_ram.v",
}
"""Files of a generated package, which documents name too."""


def test_documents_name_files_that_exist():
    root = DOCS.parent
    folders = [root / name for name in ("docs", "examples", "hw", "sim", "sw", "tests")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    there = [f"/{path.relative_to(root)}" for path in [*root.glob("*"), *files]]
    pages = [*root.glob("*.md"), *(path for path in files if path.suffix == ".md")]
    named = {(page.name, name) for page in pages for name in FILE.findall(page.read_text())}
    assert len(named) > 100
    missing = [
        (page, name)
        for page, name in sorted(named)
        if name not in IN_PACKAGES and not any(path.endswith(f"/{name}") for path in there)
    ]
    assert missing == []
