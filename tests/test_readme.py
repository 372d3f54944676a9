"""Every command of the README and of its page of requests runs, in order, in an empty folder."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
REQUESTS = (ROOT / "docs" / "howto" / "requests.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PACKAGE = CONTRIBUTING.partition("\n## The package\n")[2].partition("\n## ")[0]
MODULES = re.findall(r"^  (\w+\.py|\w+/) ", PACKAGE, re.MULTILINE)  # at the top level


def bash_lines(page: str = README) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_commands_run_and_leave_their_files(tmp_path):
    lines = [*bash_lines(README), *bash_lines(REQUESTS)]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("mattergen-lite")]
    assert len(commands) >= 19
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "mattergen_lite.cli", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert min(summary["funnel"]["left"].values()) >= 16
    assert (tmp_path / "smoke_results" / "candidates.csv").exists()
    assert (tmp_path / "runs" / "smoke" / "curves.png").exists()


def test_ci_runs_the_test_command_of_the_readme():
    assert 'pip install ".[test]" && pytest -n auto' in bash_lines()
    assert "<!-- test command -->" in README
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_file_the_readme_names_exists():
    for path in re.findall(r"\]\((?!https:)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    assert len(README.split()) < 900  # everything else has a page
    for module in MODULES:
        assert (ROOT / "mattergen_lite" / module).exists(), module


def test_modules_are_listed_in_the_order_of_the_layers():
    listed = [name.strip("/").removesuffix(".py") for name in MODULES]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [layer.split(" | ") for layer in contracts["contracts"][0]["layers"]]
    assert sorted(listed) == sorted(name for layer in layers for name in layer)
    depth = {name: place for place, layer in enumerate(layers) for name in layer}
    assert [depth[name] for name in listed] == sorted(depth[name] for name in listed)
