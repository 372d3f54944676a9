"""The shape of the code: who may import whom, and what importing costs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mattergen_lite.commands import COMMANDS, IN_MEMORY

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mattergen_lite"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "mattergen_lite").rglob("*.py")
    if path.stem != "__init__"
)


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


MAX_FILE, MAX_FUNCTION = 400, 60  # lines; of a function without its docstring


def test_files_and_functions_are_short():
    files = {
        path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")
    }
    long_files = {name for name, text in files.items() if len(text.splitlines()) > MAX_FILE}
    assert long_files == set()
    long_functions = [
        f"{name}: {node.name}"
        for name, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and lines_of(node) > MAX_FUNCTION
    ]
    assert long_functions == []


MAX_ROOMS = 31  # modules and packages at the top, which one reads first


def test_few_rooms_at_the_top():
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert len(rooms - {"__init__"}) <= MAX_ROOMS


VAGUE = {"found", "one", "there"}


def test_names_are_nouns_of_what_they_hold():
    """Names that a reader has to look up everywhere: no variable, parameter or function has one."""
    vague = [
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for folder in (PACKAGE, ROOT / "benchmarks", ROOT / "scripts")
        for path in sorted(folder.rglob("*.py"))
        for name in sorted(names_in(path) & VAGUE)
    ]
    assert vague == []


def names_in(path: Path) -> set[str]:
    """All names that a file binds."""
    kinds = {ast.Name: "id", ast.arg: "arg", ast.FunctionDef: "name", ast.ClassDef: "name"}
    nodes = ast.walk(ast.parse(path.read_text()))
    return {getattr(node, kinds[type(node)]) for node in nodes if type(node) in kinds}


def test_public_names_have_one_meaning():
    """No class or function stands in two packages, but for commands and what carries them out."""
    packages: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                room = path.relative_to(PACKAGE).parts[0]
                packages.setdefault(node.name, set()).add(room)
    assert {name for name, rooms in packages.items() if len(rooms) > 1} <= {*COMMANDS, *IN_MEMORY}


QUESTIONS = ("How", "That", "What", "When", "Where", "Whether", "Which", "Who", "Why")


def test_modules_say_what_they_do():
    """A module's docstring begins with a verb or a noun, and has at most 25 words a sentence."""
    firsts = {
        path.relative_to(PACKAGE).as_posix(): ast.get_docstring(ast.parse(path.read_text()))
        for path in PACKAGE.rglob("*.py")
        if path.read_text().strip()
    }
    assert [name for name, text in firsts.items() if text.split()[0] in QUESTIONS] == []
    long = [name for name, text in firsts.items() if len(text.split("\n")[0].split()) > 25]
    assert long == []


DIALECT = re.compile(r"\b(so many|likewise|the like|as said)\b", re.IGNORECASE)


def test_docstrings_are_plain_english():
    """A sentence is understood without the one before it."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    dialect = [
        f"{path.relative_to(PACKAGE).as_posix()}: {match[0]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds) and (match := DIALECT.search(ast.get_docstring(node) or ""))
    ]
    assert dialect == []


def lines_of(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = first.end_lineno - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_lightning_is_imported_by_training_only():
    """A judge or a sampler needs none of it."""
    importing = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if "pytorch_lightning" in imported_packages(path)
    ]
    assert importing
    assert all(path.startswith("training/") for path in importing), importing


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    return {name.partition(".")[0] for name in names}


def test_import_contracts():
    done = run(sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()")
    assert done.returncode == 0, done.stdout


def test_style():
    done = run(sys.executable, "-m", "ruff", "check", ".")
    assert done.returncode == 0, done.stdout


def test_every_name_is_defined():
    """Shapes of arrays, which ruff takes for names, are why its own rule is off."""
    words = ("check", "--isolated", "--select", "F821", "--output-format", "concise", ".")
    found = re.findall(r"Undefined name `(\w+)`", run(sys.executable, "-m", "ruff", *words).stdout)
    assert {name for name in found if not re.fullmatch(r"[A-Z]|_|E_half", name)} <= {"matplotlib"}


def test_format():
    done = run(sys.executable, "-m", "ruff", "format", "--check", ".")
    assert done.returncode == 0, done.stdout


def test_help_does_not_import_torch():
    code = (
        "import sys, mattergen_lite.cli as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'pymatgen', 'pytorch_lightning'} & set(sys.modules)"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout


def test_importing_has_no_side_effects():
    """All modules in one clean process: nothing printed, no torch thread or seed changed."""
    code = (
        "import torch; before = torch.initial_seed(), torch.get_num_threads()\n"
        + "\n".join(f"import {module}" for module in MODULES)
        + "\nassert before == (torch.initial_seed(), torch.get_num_threads())"
    )
    done = run(sys.executable, "-W", "ignore", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


POSIX_ONLY = {"crypt", "fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_needs_posix_to_load(module):
    """Modules that Windows lacks are imported inside `try`, or not when the module loads."""
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8"))
    loaded = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.split(".")[0]
        for node in loaded
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
        )
    }
    assert not names & POSIX_ONLY


def test_processes_work_without_posix():
    """As on Windows: no `resource`, no `posix_fallocate`; answers come all the same."""
    code = (
        "import os, sys, tempfile; from pathlib import Path\n"
        "sys.modules['resource'] = None; del os.posix_fallocate\n"
        "from mattergen_lite.files.folders import claimed\n"
        "from mattergen_lite.processes import limit_memory, peak_memory\n"
        "limit_memory(1); assert peak_memory() is None\n"
        "with claimed(Path(tempfile.mkdtemp()) / 'out'): print('claimed')"
    )
    done = run(sys.executable, "-c", code)
    assert done.stdout == "claimed\n", done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "generate",
        "score",
        "benchmark",
        "discover",
        "train",
        "finetune",
        "probe_fit",
        "data_prepare",
        "data_info",
    ],
)
def test_verbs_are_functions_of_the_package(name):
    import mattergen_lite

    assert callable(getattr(mattergen_lite, name))
