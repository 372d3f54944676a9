"""The Dockerfile, as far as it can be checked without an engine: files, steps, variants."""

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTRUCTIONS = {
    "ARG", "FROM", "ENV", "RUN", "COPY", "ADD", "USER", "WORKDIR", "ENTRYPOINT", "CMD", "LABEL",
}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """Instruction and argument of every logical line."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined]


def of(kind: str) -> list[str]:
    return [argument for name, argument in instructions() if name == kind]


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a path through; the last rule that fits decides."""
    rules = [
        rule.strip()
        for rule in (ROOT / ".dockerignore").read_text().splitlines()
        if rule.strip() and not rule.startswith("#")
    ]
    ignored = False
    for rule in rules:
        pattern = rule.lstrip("!").removeprefix("**/")
        if fnmatch(path, pattern) or path.startswith(f"{pattern}/") or pattern in path.split("/"):
            ignored = not rule.startswith("!")
    return not ignored


def test_only_known_instructions_in_a_valid_order():
    names = [name for name, _ in instructions()]
    assert set(names) <= INSTRUCTIONS
    assert names.index("FROM") == next(i for i, name in enumerate(names) if name != "ARG")
    assert names.count("ENTRYPOINT") == names.count("CMD") == 1


def test_the_base_is_a_python_that_the_package_takes():
    (base,) = [argument for argument in of("ARG") if argument.startswith("BASE=")]
    assert of("FROM") == ["${BASE}"]
    version = tuple(map(int, re.search(r"python:(\d+)\.(\d+)", base).groups()))
    lowest = tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))
    assert version >= lowest


def test_every_copied_source_exists():
    for argument in [*of("COPY"), *of("ADD")]:
        *sources, _ = [word for word in shlex.split(argument) if not word.startswith("--")]
        assert all((ROOT / source).exists() and in_context(source) for source in sources)


def test_the_pip_steps_are_those_of_the_readme():
    steps = [re.search(r"pip install (.*)", run)[1] for run in of("RUN") if "pip install" in run]
    torch_first, package = steps
    (requirement,) = [r for r in PROJECT["project"]["dependencies"] if r.startswith("torch")]
    assert torch_first.endswith(f'"{requirement}"')
    assert package == "/src"  # the repository, mounted: the README's `pip install .`
    assert "pip install ." in (ROOT / "README.md").read_text().splitlines()
    assert any("--mount=type=bind,target=/src" in run for run in of("RUN"))


def test_cpu_and_gpu_differ_by_one_argument():
    assert any(argument.startswith("TORCH_INDEX") for argument in of("ARG"))
    (step,) = [run for run in of("RUN") if "torch" in run]
    assert '${TORCH_INDEX:+--index-url "$TORCH_INDEX"}' in step


@pytest.mark.parametrize(
    "needed",
    [
        "pyproject.toml",
        PROJECT["project"]["readme"],
        *PROJECT["project"]["license-files"],
        *PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
        *PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"],
        "mattergen_lite/assets/hull.parquet",
        "checkpoints/mp/weights.safetensors",
    ],
)
def test_what_the_wheel_is_made_of_is_in_the_context(needed):
    assert (ROOT / needed).exists()
    assert in_context(needed)


@pytest.mark.parametrize("path", [".git", "tests/test_docker.py", "notebooks", "runs/a/last.ckpt"])
def test_nothing_else_is(path):
    assert not in_context(path)


def test_it_runs_the_command_as_an_ordinary_user():
    names = [name for name, _ in instructions()]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert of("USER") not in (["root"], ["0"])
    assert re.search(r"useradd .*designer", " ".join(of("RUN")))
    (command,) = re.findall(r'"([^"]+)"', of("ENTRYPOINT")[0])
    assert command in PROJECT["project"]["scripts"]
