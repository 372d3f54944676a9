"""The wheel has model and data and works from an empty folder; the files around the code agree."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: str, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def build_wheel(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT))
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("dist"))


def test_the_wheel_builds_reproducibly(wheel, tmp_path):
    again = build_wheel(tmp_path)
    assert (
        hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()
    )


def test_the_wheel_has_model_data_and_licences(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        weights = archive.read("mattergen_lite/assets/checkpoints/mp/weights.safetensors")
    shipped = (ROOT / "checkpoints/mp/weights.safetensors").read_bytes()
    assert hashlib.sha256(weights).digest() == hashlib.sha256(shipped).digest()
    for folder, inside in (("configs", "configs"), ("checkpoints", "checkpoints")):
        for path in (ROOT / folder).rglob("*.*"):
            name = path.relative_to(ROOT / folder).as_posix()
            assert f"mattergen_lite/assets/{inside}/{name}" in names
    assets = [path for path in (ROOT / "mattergen_lite" / "assets").iterdir() if path.is_file()]
    assert assets
    assert {f"mattergen_lite/assets/{path.name}" for path in assets} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests", "docs", "scripts")) for name in names)


@pytest.mark.slow
def test_the_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site), str(wheel))
    environment = os.environ | {"PYTHONPATH": str(site)}
    where = "import mattergen_lite; print(mattergen_lite.__file__)"
    assert str(site) in run(sys.executable, "-c", where, cwd=empty, env=environment)
    arguments = ["generate", "--num-samples", "2", "--steps", "8", "--no-relax", "--out", "results"]
    run(sys.executable, "-m", "mattergen_lite.cli", *arguments, cwd=empty, env=environment)
    assert len(list((empty / "results" / "cifs").glob("*.cif"))) == 2


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1].split(" - ")[0] == PROJECT["version"]


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    recipe = yaml.safe_load((ROOT / "packaging/conda/recipe.yaml").read_text())
    assert recipe["context"] == {"name": PROJECT["name"], "version": PROJECT["version"]}
    names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    asked = [one.split() for one in recipe["requirements"]["run"]]
    found = {f"{names.get(name, name)}{bounds}" for name, bounds in asked}
    assert found == {*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"}
    for name, entry in PROJECT["scripts"].items():
        assert recipe["build"]["python"]["entry_points"] == [f"{name} = {entry}"]
    folder = ROOT / "packaging/conda"
    assert (folder / recipe["source"]["path"]).resolve() == ROOT


def workflow(name: str) -> dict:
    """A workflow; YAML 1.1 reads its key `on` as True."""
    return yaml.safe_load((ROOT / ".github/workflows" / name).read_text())


def test_a_tag_is_all_that_a_release_needs():
    release = workflow("release.yml")
    assert release[True] == {"push": {"tags": ["v*"]}}
    assert release["permissions"] == {"contents": "read"}
    trusted = [job for job in release["jobs"].values() if "id-token" in job.get("permissions", {})]
    assert trusted == [release["jobs"]["publish"]]
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()
    commands = [step.get("run", "") for step in release["jobs"]["build"]["steps"]]
    for needed in ("python -m build", "twine check --strict", "scripts/check_wheel.sh"):
        assert any(needed in command for command in commands)


def test_ci_runs_on_three_systems():
    matrix = workflow("ci.yml")["jobs"]["systems"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    steps = workflow("ci.yml")["jobs"]["systems"]["steps"]
    named = " ".join(step.get("run", "") for step in steps)
    for path in re.findall(r"tests/\w+\.py", named):
        assert (ROOT / path).exists()


def test_pre_commit_has_the_ruff_of_ci():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = [repo for repo in hooks if repo["repo"].endswith("ruff-pre-commit")]
    pinned = re.search(
        r"^ruff==(.*)$", (ROOT / ".ci" / "constraints.txt").read_text(), re.MULTILINE
    )
    assert ruff["rev"] == f"v{pinned[1]}"


@pytest.mark.parametrize("name", ["bug", "feature", "data"])
def test_issue_templates_are_forms(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert {"name", "description", "body"} <= set(form)
    identifiers = [field["id"] for field in form["body"]]
    assert len(identifiers) == len(set(identifiers))
    assert all(field["attributes"]["label"] for field in form["body"])
