"""Libraries by their real readers: ASE, a PostgreSQL server, the reference OPTIMADE server."""

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import ase.db
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crystals import li3ps4, nacl, perovskite, rutile, triclinic

from mattergen_lite import score
from mattergen_lite.commands.library import library_export, library_import
from mattergen_lite.io.read import read_structures
from mattergen_lite.io.write import write_extxyz
from mattergen_lite.library import optimade
from mattergen_lite.library.entries import Entry
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
    rows = pq.read_table(run / "candidates.parquet").to_pylist()
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
    entry = to_optimade(Entry("x-salt", nacl(), {"density": 2.1}))
    assert_same_crystal(from_optimade(entry).structure, nacl())
    entry["attributes"]["species"][0]["concentration"] = [0.5]
    assert "partly occupied" in from_optimade(entry).error
    entry["attributes"]["lattice_vectors"] = None
    assert from_optimade(entry).error


# Servers of strangers


@pytest.fixture
def server():
    """A server that answers what it is told to, by path."""
    answers = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body, headers = answers[urlsplit(self.path).path]
            status = 302 if "Location" in headers else 400 if b"errors" in body[:10] else 200
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # whoever asked has left
                for start in range(0, len(body), step := 1 if "X-Slow" in headers else 2**16):
                    self.wfile.write(body[start : start + step])
                    time.sleep(0.1 if step == 1 else 0)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", answers
        running.shutdown()
        thread.join()


def page(entries, **more):
    return json.dumps({"data": entries} | more).encode(), {}


ENTRY = to_optimade(Entry("x-salt", nacl(), {}))


def test_a_provider_without_extras_is_read(server, tmp_path):
    """No meta, links as objects, an entry without a name and one without anything."""
    address, answers = server
    second = {"links": {"next": {"href": f"{address}/second"}}}
    answers["/v1/structures"] = page([ENTRY, {"attributes": ENTRY["attributes"]}, 7], **second)
    answers["/second"] = page([ENTRY | {"id": None}, {}], links={"next": None})
    outcome = library_import(address, tmp_path / "out.parquet")
    assert (outcome.number, outcome.unreadable) == (3, 2)
    names = [one.name for one in read_structures(tmp_path / "out.parquet")]
    assert names == ["x-salt", "#2", "#4"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda at: (gzip.compress(bytes(10**8)), {"Content-Encoding": "gzip"}), "more than"),
        (lambda at: (b" " * 10**8, {}), "more than"),
        (lambda at: page([ENTRY], links={"next": f"{at}/v1/structures"}), "in circles"),
        (lambda at: page([], links={"next": f"{at}/elsewhere"}), "in circles"),
        (lambda at: page([ENTRY], links={"next": "http://192.0.2.1/x"}), "pages of its own"),
        (lambda at: page([ENTRY], links={"next": "file:///etc/passwd"}), "pages of its own"),
        (lambda at: (b"", {"Location": "http://192.0.2.1/x"}), "pages of its own"),
        (lambda at: (b"", {"Location": "/v1/structures"}), "TooManyRedirects"),
        (lambda at: (b"[" * 100_000, {}), "no JSON"),
        (lambda at: (b"<html>", {}), "no JSON"),
        (lambda at: (b"[]", {}), "no OPTIMADE page"),
        (lambda at: (b'{"data": {"a": 1}}', {}), "no OPTIMADE page"),
        (lambda at: (b'{"errors": [{"detail": "not\\nnow"}]}', {}), "answers 400: not now"),
    ],
)
def test_hostile_providers_are_one_line(server, tmp_path, monkeypatch, answer, reason):
    monkeypatch.setattr(optimade, "MAX_PAGE", 2**20)
    address, answers = server
    answers["/v1/structures"] = answer(address)
    for path in ("/second", "/elsewhere"):
        answers[path] = page([])
    with pytest.raises(ValueError, match=reason) as refused:
        library_import(address, tmp_path / "out.parquet")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_provider_that_sends_a_byte_now_and_then_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(optimade, "PAGE_TIME_LIMIT", 1.0)
    address, answers = server
    answers["/v1/structures"] = b" " * 600, {"X-Slow": "yes"}
    with pytest.raises(ValueError, match="sent no page within 1 s"):
        library_import(address, tmp_path / "out.parquet")


def test_links_beside_a_library_are_not_followed(run, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".out.jsonl.body").symlink_to(victim)
    library_export(run, str(tmp_path / "out.jsonl"))
    assert victim.read_text() == "precious"


# Runs that are not what they say


def scored(folder, crystals, names, **options):
    write_extxyz(crystals, folder.with_suffix(".xyz"), [{"name": name} for name in names])
    score(folder.with_suffix(".xyz"), out=folder, relax=False, num_workers=0, **options)
    return folder


def exported(run, tmp_path):
    """Formula of every entry by its id, and formula of its structure."""
    path = tmp_path / "out.jsonl"
    library_export(run, str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()[2:]]
    return {
        one["id"].partition("-")[2]: (
            one["attributes"]["_mglite_formula"],
            one["attributes"]["chemical_formula_descriptive"],
        )
        for one in lines
    }


def test_repeated_names_keep_their_own_structures(tmp_path):
    run = scored(tmp_path / "run", [nacl(), rutile(), perovskite()], ["same", "same", "my a.cif"])
    found = exported(run, tmp_path)
    assert len(found) == 3
    assert all(judged == stored for judged, stored in found.values())
    assert "my a.cif" in found


def test_an_overwritten_run_leaves_nothing(tmp_path):
    out = scored(tmp_path / "run", [nacl()], ["a"])
    for name in ("relaxed.extxyz", "audit.json", "candidates.csv", "notes.txt"):
        (out / name).write_bytes((out / "structures.extxyz").read_bytes())
    (out / "relaxed" / "old").mkdir(parents=True)
    scored(tmp_path / "run", [rutile()], ["a"], overwrite=True)
    assert exported(out, tmp_path) == {"a": ("TiO2", "TiO2")}
    left = {path.name for path in out.iterdir()}
    assert not left & {"relaxed.extxyz", "audit.json", "audit.png"}
    assert "notes.txt" in left  # which is not ours
    assert not (out / "relaxed" / "old").exists()


def without_column(path):
    pq.write_table(pq.read_table(path).drop_columns("atomic_numbers"), path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda out: (out / "candidates.parquet").unlink(), "has no candidates.parquet"),
        (lambda out: (out / "candidates.parquet").write_bytes(b"junk"), "cannot read table"),
        (lambda out: (out / "run.json").write_text("[1"), "cannot read"),
        (lambda out: (out / "run.json").write_text("[1]"), "no record of a run"),
        (lambda out: (out / "run.json").write_text('{"format": 3}'), "newer version"),
        (lambda out: (out / "run.json").write_text("{}"), "older version"),
        (lambda out: without_column(out / "candidates.parquet"), "has no column atomic_numbers"),
    ],
)
def test_a_damaged_run_is_not_exported(tmp_path, damage, reason):
    out = scored(tmp_path / "run", [nacl()], ["a"])
    damage(out)
    with pytest.raises(ValueError, match=reason):
        library_export(out, str(tmp_path / "library.jsonl"))
    assert not (tmp_path / "library.jsonl").exists()


def test_scoring_a_run_keeps_names_and_relaxations(tmp_path):
    strained = rutile().scale_lattice(70)
    write_extxyz([nacl(), strained], tmp_path / "in.xyz", [{"name": "my salt.cif"}, {"name": "12"}])
    first = score(tmp_path / "in.xyz", out=tmp_path / "run", relax=True, num_workers=0)
    volumes = {one.raw.name: one.final_structure.volume for one in first.candidates}
    assert 55 < volumes["12"] < 68, "relaxing heals the strain"
    again = score(tmp_path / "run", out=tmp_path / "again", relax=False, num_workers=0)
    assert {one.raw.name: one.structure.volume for one in again.candidates} == volumes
    assert all("stability, unknown" in one.verdict or one.failed for one in again.candidates)


def test_ranks_do_not_depend_on_the_order_of_the_files(tmp_path):
    crystals, names = [nacl(), rutile(), perovskite()], ["a", "b", "c"]
    first = scored(tmp_path / "first", crystals, names)
    second = scored(tmp_path / "second", crystals[::-1], names[::-1])
    ranks = [
        [row["name"] for row in pq.read_table(out / "candidates.parquet").to_pylist()]
        for out in (first, second)
    ]
    assert ranks[0] == ranks[1]


def test_names_of_digits_are_told_apart(tmp_path):
    crystals, names = [nacl(), rutile(), perovskite()], ["007", "7", "7.0"]
    run = scored(tmp_path / "run", crystals, names)
    found = exported(run, tmp_path)
    assert set(found) == {*names}
    assert all(judged == stored for judged, stored in found.values())
    library_export(run, str(tmp_path / "library.db"))
    with ase.db.connect(tmp_path / "library.db") as database:
        samples = {row.entry_id.partition("-")[2]: row.formula for row in database.select()}
    assert set(samples) == {*names}


def test_names_that_look_like_repetitions_are_not_taken_twice(tmp_path):
    crystals, names = [nacl(), rutile(), perovskite()], ["same", "same", "same"]
    run = scored(tmp_path / "run", crystals, names)
    table = pq.read_table(run / "candidates.parquet")
    position = table.column_names.index("name")
    clashing = ["same", "same#3", "same"]
    pq.write_table(
        table.set_column(position, "name", pa.array(clashing)), run / "candidates.parquet"
    )
    assert len(exported(run, tmp_path)) == 3


def test_long_and_odd_names_cost_nothing(tmp_path):
    names = ["x" * 300, "=cmd|' /C calc'!A0", "a/b/" + "y" * 400, "é" * 200]
    out = scored(tmp_path / "run", [nacl()] * 4, names)
    table = (out / "candidates.csv").read_text()
    assert ",=cmd" not in table
    assert "'=cmd" in table
    assert len(list((out / "cifs").iterdir())) == 4


def test_a_file_whose_name_is_no_text_is_judged(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    nacl().to(str(source / "a.cif"))
    os.rename(os.fsencode(source / "a.cif"), os.fsencode(source) + b"/\xff\xfe.cif")  # noqa: PTH104
    judged = score(source, out=tmp_path / "out", relax=False, num_workers=0)
    assert [one.raw.name for one in judged.candidates] == ["__.cif"]
