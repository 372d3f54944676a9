"""Every command of the README runs, in its order, in an empty folder."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def bash_lines() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_commands_run_and_leave_their_files(tmp_path):
    commands = [shlex.split(line)[1:] for line in bash_lines() if line.startswith("mattergen-lite")]
    assert len(commands) >= 8
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
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"^  (\w+\.py|\w+/) ", README, re.MULTILINE):
        assert (ROOT / "mattergen_lite" / module).exists(), module
