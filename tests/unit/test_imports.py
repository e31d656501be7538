"""The rules that keep the layers apart, read from the source; ``docs/architecture.md`` explains them."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import harness

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(harness.__file__).parent
ROOT = PACKAGE.parent

ENTRANCE = {"cli", "__main__"}
ORCHESTRATION = {
    *("alone", "attachment", "bench", "calibration", "experiment", "targets", "unseen", "window"),
}
MEASURING_STAGES = {"repository", "servers", "load"}
READING_STAGES = {"analysis", "report"}
STAGES = {"models"} | MEASURING_STAGES | READING_STAGES

# Libraries that are heavy, or that change the process that imports them, and the one stage that may.
ONLY_IN = {
    "tensorflow": "models",
    "keras": "models",
    "tf2onnx": "models",
    "gevent": "load",
    "geventhttpclient": "load",
    "locust": "load",
    "tritonclient.http": "load",
    "docker": "servers",
    "matplotlib": "report",
}
# What starting the command must not load: each of these takes longer than all the rest together.
HEAVY = {
    *("docker", "gevent", "google.protobuf", "grpc", "keras", "locust", "matplotlib", "numpy"),
    *("onnx", "onnxruntime", "pandas", "pyarrow", "scipy", "sklearn", "tensorflow", "tritonclient"),
}
LONGEST_MODULE = 350


def python_files() -> dict[str, Path]:
    """Every module of the package by its dotted name, in a stable order."""
    files = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        files[name] = path
    return files


FILES = python_files()
# Files that the server's own Python runs are data of the package, not modules of it.
MODULES = {name: path for name, path in FILES.items() if ".backends." not in name}


def imports_of(path: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in it: ``from a import b`` counts as ``a.b``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


IMPORTS = {name: imports_of(path) for name, path in FILES.items()}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def unit_of(name: str) -> str:
    """The part of the package that a module belongs to: ``harness.load.users`` to ``load``."""
    return name.split(".")[1] if "." in name else ""


def own_imports(name: str) -> set[str]:
    """The modules of the package that a module imports; a name in a module counts as that module."""
    found = set()
    for imported in IMPORTS[name]:
        while within(imported, "harness") and imported not in FILES:
            imported = imported.rpartition(".")[0]  # noqa: PLW2901 - walks up to the module
        if within(imported, "harness"):
            found.add(imported)
    return found - {name}


def is_leaf(unit: str) -> bool:
    return unit not in ENTRANCE | ORCHESTRATION | STAGES


def may_import(importer: str, imported: str) -> bool:
    """Whether one unit may import another."""
    if importer == imported or is_leaf(imported):
        return importer != "statistics" or imported in {"statistics", ""}
    if importer in ENTRANCE:
        return True
    if importer in ORCHESTRATION:
        return imported in ORCHESTRATION | MEASURING_STAGES
    return (importer, imported) == ("report", "analysis")


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name: str) -> None:
    importer = unit_of(name)
    wrong = {other for other in own_imports(name) if not may_import(importer, unit_of(other))}
    assert not wrong, f"{name} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_has_one_stage(library: str) -> None:
    users = {name for name in FILES if any(within(found, library) for found in IMPORTS[name])}
    assert users, f"nothing imports {library}: the rule has nothing to hold"
    wrong = {name for name in users if unit_of(name) != ONLY_IN[library]}
    assert not wrong, f"only harness.{ONLY_IN[library]} may import {library}: {sorted(wrong)}"


def test_the_driver_runs_where_nothing_may_be_patched() -> None:
    """Importing Locust patches the process; the driver runs in the command's own."""
    patching = {library for library, stage in ONLY_IN.items() if stage == "load"}
    seen, waiting = set(), ["harness.load.driver"]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting += own_imports(name) - seen
    wrong = {
        f"{name} imports {found}"
        for name in seen
        for found in IMPORTS[name]
        if any(within(found, library) for library in patching)
    }
    assert not wrong


def test_no_module_needs_itself() -> None:
    """No cycles: take away modules that import nothing that is left, until none is left."""
    left = {name: own_imports(name) - parents(name) for name in MODULES}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left, f"these import each other in a circle: {sorted(left)}"


def parents(name: str) -> set[str]:
    """The packages that a module lies in; a command registers itself on the app of its package."""
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_and_what_it_offers(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "no docstring"
    if MODULES[name].name == "__main__.py" or not has_definitions(tree):
        return
    offered = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and node.value is not None
        and "__all__" in names_bound(node)
    ]
    assert len(offered) == 1, "no __all__"
    assert sorted(set(offered[0])) == sorted(offered[0]), "a name stands twice"
    bound = {bound for node in tree.body for bound in names_bound(node)}
    assert set(offered[0]) <= bound, f"{set(offered[0]) - bound} offered, not there"


def has_definitions(tree: ast.Module) -> bool:
    return any(not isinstance(node, ast.Expr) for node in tree.body)


def names_bound(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


@pytest.mark.parametrize("name", FILES)
def test_a_module_fits_in_the_head(name: str) -> None:
    lines = FILES[name].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_MODULE, f"{lines} lines: two nouns in one module?"


def test_only_the_commands_print_or_exit() -> None:
    wrong = {
        f"{name}:{call.lineno}"
        for name, path in MODULES.items()
        if unit_of(name) not in ENTRANCE
        for call in calls_in(ast.parse(path.read_text(encoding="utf-8")))
        if ast.unparse(call.func) in {"print", "sys.exit", "exit", "os._exit"}
    }
    assert not wrong


def calls_in(tree: ast.Module) -> Iterator[ast.Call]:
    """Every call but those that run only where the file itself is the program."""
    for statement in tree.body:
        if not (isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)):
            yield from (node for node in ast.walk(statement) if isinstance(node, ast.Call))


def python(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True, timeout=60
    ).stdout


LIST_LOADED = """
import contextlib, io, sys
from harness.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["--help"])
print(*sys.modules)
"""


def test_help_loads_nothing_heavy() -> None:
    loaded = set(python("-c", LIST_LOADED).split())
    assert "harness.cli.verbs" in loaded
    assert not loaded & HEAVY


def test_help_answers_at_once() -> None:
    """Measured against what the command line itself costs, on the same machine in the same minute."""
    base = ("-c", "import typer, typer.rich_utils, rich.console, rich.panel")
    ours = ("-m", "harness", "--help")
    base_s, ours_s = [seconds(*base)], [seconds(*ours)]
    while min(ours_s) >= 2 * min(base_s) and len(ours_s) < 20:  # a busy machine slows single runs
        base_s.append(seconds(*base))
        ours_s.append(seconds(*ours))
    assert min(ours_s) < 2 * min(base_s), f"{min(ours_s):.2f} s; typer alone {min(base_s):.2f} s"


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    python(*arguments)
    return time.perf_counter() - start
