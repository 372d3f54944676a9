"""Folders of results: whoever cannot have one hears it before any work, in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mattergen_lite import cli
from mattergen_lite.files.folders import atomic_path, claimed, claimed_file, remove
from mattergen_lite.io.write import csv_cell, file_names


def test_a_folder_is_held_by_one(tmp_path):
    out = tmp_path / "deep" / "out"
    with claimed(out):
        with pytest.raises(ValueError, match="another run is writing to"), claimed(out):
            pass
        (out / "result").touch()
    with claimed(out):
        assert [path.name for path in out.iterdir() if path.name[0] != "."] == ["result"]
    assert [path.name for path in out.iterdir()] == ["result"]


def test_a_folder_is_held_across_processes_and_freed_by_a_kill(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from mattergen_lite.files.folders import claimed\n"
        "with claimed(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "out"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="another run is writing to"), claimed(tmp_path / "out"):
        pass
    holder.kill()
    holder.wait()
    with claimed(tmp_path / "out"):
        pass


PLACES = """
generate --checkpoint nowhere --out
predict --formula NaCl --checkpoint nowhere --out
complete --seed-structure nowhere.cif --out
discover --checkpoint nowhere --out
score nowhere --out
benchmark nowhere --protocol cdvae --out
finetune nowhere --property gap --out
probe fit nowhere --property gap --out
campaign report nowhere --out
campaign run source=nowhere.cif run_dir=
train data.path=nowhere.parquet run_dir=
data prepare . out.parquet
data info nowhere.parquet --png out.parquet
data show NaCl --out out.cif
calibrate --potential chgnet --labels nowhere --out out.parquet
library import http://127.0.0.1:9 out.parquet
library export . out.jsonl
""".strip().splitlines()


@pytest.mark.parametrize("line", PLACES)
def test_every_verb_holds_its_place_before_any_work(monkeypatch, capsys, tmp_path, line):
    """What is asked for is not even there: whoever looked at it first would say that."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text("{}")  # a missing source would be refused before
    if line.endswith(("--out", "run_dir=")):
        place, held = Path("out"), claimed(Path("out"))
        line += " out" if line.endswith("--out") else "out"
    else:
        place = Path(line.split()[-1])
        held = claimed_file(place)
    monkeypatch.setattr(sys, "argv", ["mattergen-lite", *line.split()])
    with held, pytest.raises(SystemExit, match="2"):
        cli.main()
    assert f"another run is writing to {place if place.suffix == '' else '.'}" in (
        capsys.readouterr().err
    )
    place.touch()  # where a folder is to be
    if place.suffix == "":
        with pytest.raises(SystemExit, match="2"):
            cli.main()
        assert "cannot write to out" in capsys.readouterr().err


def test_nothing_is_left_of_a_folder_that_was_not_used(tmp_path):
    with claimed(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", ["file", "below_a_file", "dangling", "long", "device", "bytes"])
def test_what_can_be_no_folder_is_one_line(tmp_path, make):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at" / "all")
    out = {
        "file": tmp_path / "file",
        "below_a_file": tmp_path / "file" / "out",
        "dangling": tmp_path / "link",
        "long": tmp_path / ("x" * 300),
        "device": Path("/dev/null/out"),
        "bytes": tmp_path / os.fsdecode(b"\xff\xfe"),
    }[make]
    with pytest.raises(ValueError, match="cannot write to") as refused, claimed(out):
        pass
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="No space left on device"), claimed(tmp_path / "out"):
        pass


def test_a_file_to_write_is_held_too(tmp_path):
    with pytest.raises(ValueError, match="is a folder"), claimed_file(tmp_path):
        pass
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    refused = pytest.raises(ValueError, match="another run")
    with claimed_file(first), claimed_file(second), refused, claimed_file(first):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    code = (
        "import os, sys\nfrom mattergen_lite.files.folders import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path:\n    path.write_text('half')\n    os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "scores.parquet"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with claimed(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_links_are_replaced_not_followed(tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "out.csv"
    victim.write_text("precious")
    link.symlink_to(victim)
    with atomic_path(link) as path:
        path.write_text("ours")
    assert victim.read_text() == "precious"
    assert link.read_text() == "ours"
    (tmp_path / "dft").symlink_to(tmp_path)
    remove(tmp_path, ["dft", "never there"])
    assert victim.exists()


@example(["x" * 400, "é" * 300])
@given(st.lists(st.text(max_size=400), max_size=5))
def test_any_names_become_names_of_files(names):
    found = file_names(names)
    assert len({name.casefold() for name in found}) == len(names)
    for name in found:
        assert len(f".{name}.relaxed.cif.partial".encode()) < 256
        assert "/" not in name
        assert name.isprintable()


def test_cells_are_no_formulas():
    assert csv_cell("=1+1") == "'=1+1"
    assert csv_cell("@cmd") == "'@cmd"
    assert csv_cell(-0.5) == "-0.5"
    assert csv_cell(-3) == -3
    assert csv_cell("NaCl") == "NaCl"
    assert csv_cell("") == ""
    assert csv_cell(None) is None
