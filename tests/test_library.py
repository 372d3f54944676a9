"""Libraries by their real readers: ASE, a PostgreSQL server, the reference OPTIMADE server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import ase.db
import numpy as np
import pyarrow.parquet as pq
import pytest
from crystals import li3ps4, nacl, perovskite, rutile, triclinic

from mattergen_lite import library_export, library_import, score
from mattergen_lite.io import read_structures, write_extxyz
from mattergen_lite.library.exchange import system_filter
from mattergen_lite.library.optimade import from_optimade, to_optimade

NAMES = ("salt", "titania", "sto", "lps", "skewed")


@pytest.fixture(scope="module")
def crystals():
    return dict(zip(NAMES, (nacl(), rutile(), perovskite(), li3ps4(), triclinic()), strict=True))


@pytest.fixture(scope="module")
def run(crystals, tmp_path_factory):
    """A finished run, one of whose crystals could not be read."""
    folder = tmp_path_factory.mktemp("run")
    write_extxyz(list(crystals.values()), folder / "all.extxyz", [{"name": n} for n in crystals])
    source = tmp_path_factory.mktemp("source")
    shutil.copy(folder / "all.extxyz", source)
    (source / "broken.cif").write_text("data_broken\n_atom_site_label\n")
    score(source, out=folder / "scored", relax=False, num_workers=0)
    return folder / "scored"


def assert_same_crystal(found, expected):
    np.testing.assert_allclose(found.lattice.matrix, expected.lattice.matrix, atol=1e-6)
    assert found.species == expected.species
    difference = found.frac_coords - expected.frac_coords
    np.testing.assert_allclose(difference - difference.round(), 0, atol=1e-6)


def test_sqlite_can_be_searched_and_does_not_grow_by_repetition(run, crystals, tmp_path):
    path = tmp_path / "library.db"
    assert library_export(run, str(path)).number == len(crystals)
    assert library_export(run, str(path)).number == 0
    database = ase.db.connect(path)
    assert database.count() == len(crystals)
    (row,) = database.select("Ti,O,Sr=0,density>4")
    assert (row.sample, row.reduced_formula, row.space_group) == ("titania", "TiO2", 136)
    atoms = row.toatoms()
    expected = crystals["titania"]
    np.testing.assert_allclose(atoms.cell.array, expected.lattice.matrix, atol=1e-6)
    assert atoms.numbers.tolist() == list(expected.atomic_numbers)


def test_passed_only_leaves_out_what_fails_a_check(run, tmp_path):
    rows = pq.read_table(run / "scores.parquet").to_pylist()
    passed = sum(row["error"] is None and not row["failed_checks"] for row in rows)
    assert library_export(run, str(tmp_path / "a.jsonl"), passed_only=True).number == passed
    assert passed < len(NAMES)


@pytest.fixture
def postgres():
    """A PostgreSQL server of its own, which refuses to run for the superuser."""
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("no PostgreSQL here")
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp())
    if user:
        shutil.chown(folder, "nobody")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **user}
    data = folder / "data"
    subprocess.run(["initdb", "-D", data, "-U", "group", "-A", "trust"], **options)
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    subprocess.run(
        ["pg_ctl", "-D", data, "-o", settings, "-l", folder / "log", "-w", "start"], **options
    )
    yield f"postgresql://group@127.0.0.1:{port}/postgres"
    subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], **options)
    shutil.rmtree(folder)


def test_postgresql_holds_the_same(run, crystals, postgres):
    assert library_export(run, postgres).number == len(crystals)
    assert library_export(run, postgres).number == 0
    with ase.db.connect(postgres) as database:
        (row,) = database.select("Ti,O,Sr=0,density>4")
        assert (row.sample, row.natoms) == ("titania", 6)
        assert database.count() == len(crystals)


def answers(address):
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def provider(run, tmp_path_factory):
    """The reference OPTIMADE server, which publishes our JSON Lines."""
    folder = tmp_path_factory.mktemp("optimade")
    library_export(run, str(folder / "library.jsonl"))
    provider = {"prefix": "mglite", "name": "ours", "description": "ours", "homepage": None}
    settings = {
        "database_backend": "mongomock",
        "insert_from_jsonl": str(folder / "library.jsonl"),
        "insert_test_data": False,
        "create_default_index": False,
        "provider": provider,
        "provider_fields": {"structures": ["_mglite_density"]},
        "log_dir": str(folder),
    }
    (folder / "config.json").write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "optimade.server.main:app", "--port", str(port)],
            env={**os.environ, "OPTIMADE_CONFIG_FILE": str(folder / "config.json")},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    end = time.monotonic() + 120
    while not answers(f"{address}/v1/structures"):
        assert server.poll() is None, (folder / "server.log").read_text()[-2000:]
        assert time.monotonic() < end
        time.sleep(0.3)
    yield address
    server.send_signal(signal.SIGTERM)
    server.wait()


def test_the_reference_server_publishes_our_library(provider, crystals, tmp_path):
    """Out as JSON Lines, through their server and their client, and in again."""
    out = tmp_path / "all.parquet"
    outcome = library_import(provider, out, field=["_mglite_density"])
    assert (outcome.number, outcome.unreadable) == (len(crystals), 0)
    records = {one.name.partition("-")[2]: one for one in read_structures(out)}
    assert set(records) == set(crystals)
    for name, one in records.items():
        assert_same_crystal(one.structure, crystals[name])
        assert one.properties["_mglite_density"] == pytest.approx(float(crystals[name].density))


def test_filters_are_those_of_optimade(provider, tmp_path):
    out = tmp_path / "some.parquet"
    assert library_import(provider, out, chemical_system="O-Ti").number == 1
    assert library_import(provider, out, filter='elements HAS "O"').number == 3
    asked = {"filter": 'elements HAS "O"', "chemical_system": "Sr-Ti-O"}
    assert library_import(provider, out, **asked).number == 1
    assert library_import(provider, out, limit=2).number == 2
    with pytest.raises(ValueError, match="nothing found"):
        library_import(provider, tmp_path / "none.parquet", chemical_system="U")
    assert not (tmp_path / "none.parquet").exists()


def test_what_cannot_be_asked_is_refused(tmp_path, monkeypatch, run):
    monkeypatch.delenv("MP_API_KEY", raising=False)
    out = tmp_path / "out.parquet"
    with pytest.raises(ValueError, match="MP_API_KEY"):
        library_import("materials-project", out, chemical_system="Li-O")
    with pytest.raises(ValueError, match="filter 'elements HAS'"):
        library_import("http://127.0.0.1:1", out, filter="elements HAS")
    with pytest.raises(ValueError, match=r"provider 'oqmd': expected materials-project or"):
        library_import("oqmd", out)
    with pytest.raises(ValueError, match="limit is 0"):
        library_import("http://127.0.0.1:1", out, limit=0)
    with pytest.raises(ValueError, match="Xx"):
        system_filter("Li-Xx")
    with pytest.raises(ValueError, match=r"expected a file ending in \.jsonl"):
        library_export(run, "library.txt")
    with pytest.raises(ValueError, match="expected the folder of a campaign"):
        library_export(tmp_path, "library.db")


def test_disordered_and_broken_entries_are_named():
    from mattergen_lite.library.entries import Entry

    entry = to_optimade(Entry("x-salt", nacl(), {"density": 2.1}))
    assert_same_crystal(from_optimade(entry).structure, nacl())
    entry["attributes"]["species"][0]["concentration"] = [0.5]
    assert "partly occupied" in from_optimade(entry).error
    entry["attributes"]["lattice_vectors"] = None
    assert from_optimade(entry).error
