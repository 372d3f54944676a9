"""A part of the hostile pass: every odd file, and every so many command lines."""

import ast
import os
import re
from itertools import islice
from pathlib import Path

import pytest
from hostile_commands import SINGLE, command_words
from hostile_files import odd_files
from hostile_pass import misread, prepared, run_case

from mattergen_lite.benchmarking.sets import parse_sets
from mattergen_lite.campaign.plan import read_manifest
from mattergen_lite.config import PropertyConfig, read_yaml
from mattergen_lite.data.labels import read_labelled
from mattergen_lite.data.table import read_crystal_table
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.read import read_structures
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.runs.folder import RunFolder

if not hasattr(os, "fork"):
    pytest.skip("needs POSIX", allow_module_level=True)

EACH = 40  # of the commands one is tried here


def test_odd_files_are_read_rightly_or_refused(tmp_path):
    wrong = {}
    for odd in odd_files():
        path = tmp_path / odd.name
        path.write_bytes(odd.data)
        if found := misread(odd, path):
            wrong[odd.name] = found
        path.unlink()
    assert not wrong


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads
def test_odd_commands_end_in_one_line(tmp_path):
    work = prepared(tmp_path)
    for words in islice(command_words(), 0, None, EACH):
        case, wrong = run_case(work, words)
        assert not wrong, case
    for line in (*SINGLE[:8], "train tiny.yaml run_dir=o init_from=/"):
        case, wrong = run_case(work, line.split())
        assert not wrong, case


@pytest.mark.parametrize(
    "read",
    [
        lambda path: list(read_structures(path)),
        lambda path: read_labelled(
            path, PropertyConfig(name="gap"), keep=path, seed=0, num_workers=0
        ),
        lambda path: parse_sets(path, []),
        read_crystal_table,
        read_yaml,
    ],
)
def test_pipes_devices_and_loops_are_refused(tmp_path, read):
    pipe, zero, loop = tmp_path / "pipe.csv", tmp_path / "zero.csv", tmp_path / "loop.csv"
    os.mkfifo(pipe)
    zero.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    for path in (pipe, zero, loop):
        with pytest.raises(ValueError, match=r"a pipe or a device|no file|not exist|cannot read"):
            read(path)


def test_pipes_in_the_folders_of_others_are_refused(tmp_path):
    for name in ("run.json", "candidates.parquet", "config.yaml", "campaign.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / "config.yaml").touch()
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        for read in (RunFolder, read_manifest, lambda one: find_checkpoint(str(one))):
            with pytest.raises(ValueError, match="is a pipe or a device"):
                read(folder)


def test_every_guard_that_is_documented_has_its_test():
    """The table of docs/explanation/security.md."""
    here = Path(__file__).parent
    text = (here.parent / "docs" / "explanation" / "security.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    rows = [line for line in text.splitlines() if ".py::" in line]
    assert len(rows) >= 20
    assert all(row.startswith("| ") for row in rows)
    assert sum(row.count("::") for row in rows) == len(named) == len({*named})
    for file, name in named:
        found = ast.parse((here / file).read_text()).body
        assert name in {one.name for one in found if isinstance(one, ast.FunctionDef)}, name


def stubborn(seconds: float) -> str:
    """Does not end, and swallows exceptions."""
    while seconds:
        try:
            sum(range(10**6))
        except Exception:
            continue
    return "done"


def greedy(num_bytes: int) -> int:
    return len(bytearray(num_bytes))


def test_limits_hold_without_processes():
    with Pool(0) as pool:
        items = pool.map(stubborn, [1.0, 0.0], time_limit=0.5)
        assert list(items) == [Failure("no result within 0.5 s"), "done"]
        assert list(pool.map(greedy, [2**10, 2**32], time_limit=60.0, memory_limit=2**30)) == [
            2**10,
            Failure("needs more memory than a process may take"),
        ]
