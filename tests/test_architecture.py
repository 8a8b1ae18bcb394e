"""Rules about the tree itself: packages, imports, documents, what may be committed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PORTIONS = [ROOT / portion / "systolith" for portion in ("hw", "sw", "sim")]
SOURCES = sorted(path for portion in PORTIONS for path in portion.rglob("*.py"))

# Places that exist on one machine only. Written so that the pattern does not match itself.
MACHINE_PATHS = re.compile(r"(?<![\w.-])/(?:work|root|home|Users)/")


def source_id(path):
    return str(path.relative_to(ROOT))


def committed_files():
    """Return the files that git knows or would add, as paths."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def is_public(node):
    return not node.name.startswith("_")


def undocumented(path):
    """Yield line and name of every public thing of a module that has no docstring.

    Methods are public things of public classes; those that Python or a framework calls
    (`__len__`, `elaborate`) and properties that return a parameter of the constructor are
    documented by their class.
    """
    tree = ast.parse(path.read_text(), filename=str(path))
    if ast.get_docstring(tree) is None:
        yield 1, "the module"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if is_public(node) and ast.get_docstring(node) is None:
                yield node.lineno, node.name
            if isinstance(node, ast.ClassDef) and is_public(node):
                yield from undocumented_methods(node)


def undocumented_methods(owner):
    parameters = {
        argument.arg
        for node in owner.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        for argument in [*node.args.args, *node.args.kwonlyargs]
    }
    for node in owner.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name == "elaborate" or node.name in parameters or not is_public(node):
            continue
        if any(is_setter_or_override(decorator) for decorator in node.decorator_list):
            continue
        if ast.get_docstring(node) is None:
            yield node.lineno, f"{owner.name}.{node.name}"


def is_setter_or_override(decorator):
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name in ("setter", "override", "overload")


@pytest.mark.parametrize("portion", PORTIONS, ids=source_id)
def test_portion_of_the_namespace_has_no_init(portion):
    assert portion.is_dir()
    assert not (portion / "__init__.py").exists(), "it would hide the other portions"


def test_every_folder_of_a_portion_is_a_package():
    folders = {path.parent for path in SOURCES} - set(PORTIONS)
    assert [source_id(path) for path in folders if not (path / "__init__.py").is_file()] == []


def test_no_module_name_occurs_in_two_portions():
    names = [path.relative_to(portion) for portion in PORTIONS for path in portion.iterdir()]
    names = [name for name in names if name.name != "__pycache__"]
    assert len(names) == len(set(names))


def test_imports_follow_the_layers():
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_public_things_have_docstrings(path):
    assert list(undocumented(path)) == []


def test_missing_docstrings_are_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "class Public:\n    def __init__(self, *, depth): ...\n    def depth(self): ...\n"
        "    def push(self): ...\n    def _pop(self): ...\ndef _private(): ...\n"
    )
    assert list(undocumented(path)) == [(1, "the module"), (1, "Public"), (4, "Public.push")]


def test_generated_documents_are_fresh():
    from systolith.arch import docgen

    stale = [
        str(path)
        for path, text in docgen.documents().items()
        if not (ROOT / path).is_file() or (ROOT / path).read_text() != text
    ]
    assert stale == [], 'run "make docs"'


def test_committed_files_hold_no_path_of_one_machine():
    found = []
    for path in committed_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(
            content.decode("utf-8", errors="replace").splitlines(), start=1
        ):
            if MACHINE_PATHS.search(line):
                found.append(f"{source_id(path)}:{number}: {line.strip()}")
    assert found == []
