"""Odd files of which the right reading is known, for `hostile_pass`: (name, bytes, truth).

A truth is the composition, volume and space group of the crystal that the file states, or None
where it states none: then an error is the only right answer. `Odd.lenient` files may also be
refused.
"""

import csv
import gzip
import io
import json
import math
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

SYMOPS_P4MNM = (
    *("x,y,z", "-x,-y,z", "-y+1/2,x+1/2,z+1/2", "y+1/2,-x+1/2,z+1/2", "-x+1/2,y+1/2,-z+1/2"),
    *("x+1/2,-y+1/2,-z+1/2", "y,x,-z", "-y,-x,-z", "-x,-y,-z", "x,y,-z", "y+1/2,-x+1/2,-z+1/2"),
    *("-y+1/2,x+1/2,-z+1/2", "x+1/2,-y+1/2,z+1/2", "-x+1/2,y+1/2,z+1/2", "-y,-x,z", "y,x,z"),
)


class Truth(NamedTuple):
    """What a file states."""

    formula: str  # of the cell, elements in alphabetical order: Cl4 Na4
    volume: float  # Å³
    space_group: int


class Odd(NamedTuple):
    """A file and what is right about it."""

    name: str
    data: bytes
    truth: Truth | None = None
    lenient: bool = False


SALT = Truth("Cl4 Na4", 5.64**3, 225)
RUTILE = Truth("O4 Ti2", 4.594**2 * 2.959, 136)
FRAME = 'Lattice="5.64 0 0 0 5.64 0 0 0 5.64" Properties=species:S:1:pos:R:3'
SALT_SITES = [
    *(("Na", x, y, z) for x, y, z in [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]),
    *(("Cl", x, y, z) for x, y, z in [(0.5, 0.5, 0.5), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)]),
]


def cif(
    sites: list = SALT_SITES,
    lengths: tuple = (5.64, 5.64, 5.64),
    angles: tuple = (90, 90, 90),
    head: str = "",
    ops: tuple = (),
    column: str = "",
    values: tuple = (),
) -> str:
    """A CIF, written without any library."""
    names = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
    names += ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
    cell = "\n".join(f"{n} {v}" for n, v in zip(names, (*lengths, *angles), strict=True))
    listed = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{o}'\n" for o in ops) if ops else ""
    extra = values or ("",) * len(sites)
    atoms = "".join(
        f"{s}{i} {s} {x} {y} {z} {e}\n"
        for i, ((s, x, y, z), e) in enumerate(zip(sites, extra, strict=True))
    )
    columns = "".join(f"_atom_site_fract_{a}\n" for a in "xyz") + column
    return (
        f"data_a\n{head}\n{cell}\n{listed}loop_\n_atom_site_label\n_atom_site_type_symbol\n"
        f"{columns}\n{atoms}"
    )


def rutile_cif(x: object = 0.305, **options: object) -> str:
    """Rutile with its sixteen operations."""
    sites = [("Ti", 0, 0, 0), ("O", x, x, 0)]
    return cif(sites, (4.594, 4.594, 2.959), ops=SYMOPS_P4MNM, **options)


def poscar(
    scale: object = 1.0,
    length: float = 5.64,
    mode: str = "Direct",
    factor: float = 1.0,
    symbols: str = "Na Cl",
    counts: str = "4 4",
    rows: list | None = None,
) -> str:
    """A POSCAR of rock salt; coordinates are multiplied by the factor."""
    cell = "\n".join(" ".join(str(length * (i == j)) for j in range(3)) for i in range(3))
    atoms = rows or [" ".join(str(factor * v) for v in site[1:]) for site in SALT_SITES]
    return f"salt\n{scale}\n{cell}\n{symbols}\n{counts}\n{mode}\n" + "\n".join(atoms) + "\n"


def xyz(
    comment: str = FRAME + ' pbc="T T T"',
    count: object = 8,
    rows: list | None = None,
) -> str:
    """An extxyz frame of rock salt."""
    atoms = rows or [f"{s} {5.64 * x} {5.64 * y} {5.64 * z}" for s, x, y, z in SALT_SITES]
    return f"{count}\n{comment}\n" + "\n".join(atoms) + "\n"


def as_dict(sites: list = SALT_SITES, length: float = 5.64, **lattice: object) -> dict:
    """pymatgen's JSON, written without pymatgen."""
    matrix = [[length * (i == j) for j in range(3)] for i in range(3)]
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "lattice": {"matrix": matrix, **lattice},
        "sites": [
            {"species": [{"element": s, "occu": 1}], "abc": [x, y, z]} for s, x, y, z in sites
        ],
    }


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return whole.getvalue()


def table(rows: list[dict], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def cifs() -> Iterator[Odd]:
    """CIFs: encodings, spellings, contradictions with themselves."""
    good = cif()
    for code in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"):
        truth = SALT if code in ("utf-8-sig", "latin-1") else None
        yield Odd(f"{code}.cif", good.encode(code), truth)
    for name, end in (("crlf", "\r\n"), ("cr", "\r"), ("blank", "\n\n \n")):
        yield Odd(f"{name}.cif", good.replace("\n", end).encode(), SALT)
    for mark in ("\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x1a"):
        text = good.replace("Na0 Na 0 0 0", f"Na0 Na 0 0 0 {mark}")
        yield Odd(f"mark{ord(mark)}.cif", text.encode(), SALT, lenient=True)
        head = f"_publ_note 'a{mark}Na9 Na 0.1 0.1 0.1'\n"
        yield Odd(f"quoted{ord(mark)}.cif", cif(head=head).encode(), SALT, lenient=True)


def numbers_in_cifs() -> Iterator[Odd]:
    """CIFs with numbers that are none, or too large or small."""
    good = cif()
    for value in ("nan", "inf", "-inf", "1e400", "1e308", ".", "?", "0x1", "1_0", "", "1/2", "٠"):
        text = good.replace("Na0 Na 0 0 0", f"Na0 Na {value} 0 0")
        truth = SALT if value == "٠" else None
        yield Odd(f"coordinate{value.replace('/', '-')}.cif", text.encode(), truth, lenient=True)
        text = good.replace("_cell_length_a 5.64", f"_cell_length_a {value}")
        yield Odd(f"length{value.replace('/', '-')}.cif", text.encode())
    for value in (0, -90, 180, 360, 1e308, 90.5, "nan"):
        truth = None
        if value == 90.5:  # a sheared cell is a cell
            angle = math.radians(90.5)
            truth = Truth("Cl4 Na4", 5.64**3 * math.sin(angle), 71)
        yield Odd(f"angle{value}.cif", cif(angles=(90, value, 90)).encode(), truth, lenient=True)
    for value in ("0", "-1", "nan", "2", "1.5", "0.5", "1e-9", "1e308", "?", "inf", "0.98", "1.1"):
        text = cif(column="_atom_site_occupancy\n", values=(value, *["1"] * 7))
        yield Odd(f"occupancy{value}.cif", text.encode())
    for number in (0, -1, 231, 1e9, 62, 216, "Fm-3m", "x" * 5000):
        text = cif(head=f"_space_group_IT_number {number}\n", ops=("x,y,z",))
        yield Odd(f"group{str(number)[:9]}.cif", text.encode(), SALT if number == 1 else None, True)


def symmetry_in_cifs() -> Iterator[Odd]:
    """CIFs that contradict themselves about symmetry, composition, cell or occupation."""
    yield Odd("rutile.cif", rutile_cif().encode(), RUTILE)
    yield Odd("esd.cif", rutile_cif("0.3050(12)").encode(), RUTILE)
    yield Odd("upper.cif", rutile_cif().replace("_cell", "_CELL").encode(), RUTILE)
    wrong = "_symmetry_Int_Tables_number 137\n"
    yield Odd("othergroup.cif", rutile_cif(head=wrong).encode())
    yield Odd("halfops.cif", rutile_cif().replace("'y,x,z'\n", "").encode())
    yield Odd("twiceops.cif", rutile_cif().replace("'y,x,z'", "'x,y,z'").encode())
    yield Odd("badops.cif", rutile_cif().replace("'y,x,z'", "'__import__(1),x,z'").encode())
    yield Odd("sumformula.cif", rutile_cif(head="_chemical_formula_sum 'Ti O3'\n").encode())
    yield Odd(
        "z.cif", rutile_cif(head="_chemical_formula_sum 'Ti O2'\n_cell_formula_units_Z 4").encode()
    )
    yield Odd("volume.cif", rutile_cif(head="_cell_volume 124.9\n").encode())
    yield Odd("modulated.cif", rutile_cif(head="_cell_modulation_dimension 1\n").encode())
    yield Odd("superspace.cif", rutile_cif(head="_space_group_ssg_name 'P42/m'\n").encode())
    yield Odd("twocells.cif", rutile_cif(head="_cell_length_a 9\n").encode())
    multiplicity = "_atom_site_symmetry_multiplicity\n"
    yield Odd("multiplicity.cif", rutile_cif(column=multiplicity, values=(2, 8)).encode())
    groups = "_atom_site_disorder_group\n"
    yield Odd("disorder.cif", cif(column=groups, values=(1, 2, *["."] * 6)).encode())
    yield Odd("centring.cif", _uncentred().encode())


def sites_in_cifs() -> Iterator[Odd]:
    """CIFs with atoms that are none, or there twice."""
    for name, sites in {
        "twice": [*SALT_SITES, SALT_SITES[0]],
        "shared": [*SALT_SITES, ("K", 0, 0, 0)],
        "near": [*SALT_SITES, ("Na", 0.001, 0, 0)],
        "wrapped": [*SALT_SITES, ("Na", 1, 1, 1)],
        "ion": [("Na1+", *s[1:]) if s[0] == "Na" else ("Cl1-", *s[1:]) for s in SALT_SITES],
        "dummy": [("X", *s[1:]) for s in SALT_SITES],
        "deuterium": [("D", *s[1:]) for s in SALT_SITES],
        "vacancy": [("Va", *s[1:]) for s in SALT_SITES],
        "lower": [(s[0].lower(), *s[1:]) for s in SALT_SITES],
        "water": [("Wat", *s[1:]) for s in SALT_SITES],
        "script": [("Ναα", *s[1:]) for s in SALT_SITES],
    }.items():
        truth = SALT if name in ("ion", "lower") else None
        yield Odd(f"{name}.cif", cif(sites).encode(), truth, lenient=True)


def broken_cifs() -> Iterator[Odd]:
    """CIFs that are large, cut off or no CIFs."""
    good = cif()
    yield Odd("many.cif", cif([("Na", i / 3e4, 0, 0) for i in range(20_000)]).encode())
    yield Odd("manyops.cif", cif(ops=tuple(f"x+{i}/500,y,z" for i in range(500))).encode())
    yield Odd("text.cif", b"data_a\n;" + b"a" * 3_000_000 + b"\n")
    yield Odd("quotes.cif", b"data_a\n_b " + b"'" * 2_000_000 + b"\n_atom_site_fract_x 1")
    yield Odd("loops.cif", b"data_a\n" + b"loop_\n" * 300_000 + b"_atom_site_fract_x")
    yield Odd("names.cif", b"data_a\nloop_\n" + b"_atom_site_fract_x\n" * 100_000 + b"1 " * 9)
    yield Odd("blocks.cif", (good * 3).encode(), SALT, lenient=True)
    within = "_publ_note\n;\n" + rutile_cif() + "_publ_note\n;\n"  # another crystal, as text
    yield Odd("textfirst.cif", cif(head=within).encode(), SALT)
    yield Odd("textlast.cif", (good + within).encode(), SALT)
    yield Odd("empty.cif", b"")
    yield Odd("nul.cif", b"\0" * 10_000)
    yield Odd("half.cif", good.encode()[: len(good) // 2])
    yield Odd("binary.cif", bytes(range(256)) * 40)
    yield Odd("mmcif.cif", good.replace("_atom_site_fract_x", "_atom_site.fract_x").encode())
    yield Odd(
        "magnetic.cif",
        good.replace("loop_\n_atom", "_space_group_magn.name_BNS 'P_I'\nloop_\n_atom").encode(),
        SALT,
        True,
    )


def _uncentred() -> str:
    """Rock salt whose list of operations has lost the centring that its name has."""
    ops = ("x,y,z", "-x,-y,-z")
    head = "_symmetry_space_group_name_H-M 'F m -3 m'\n"
    return cif([SALT_SITES[0], SALT_SITES[4]], head=head, ops=ops)


def poscars() -> Iterator[Odd]:
    """POSCARs: scales, counts, kinds of coordinates."""
    yield Odd("POSCAR", poscar().encode(), SALT)
    yield Odd("scaled.vasp", poscar(scale=5.64, length=1.0).encode(), SALT)
    yield Odd("minus.vasp", poscar(scale=-(5.64**3), length=2.0).encode(), SALT)
    for name, factor in (("Cartesian", 5.64), ("kartesian", 5.64), ("cart", 5.64)):
        yield Odd(f"{name}.vasp", poscar(mode=name, factor=factor).encode(), SALT)
    volume = poscar(scale=-(5.64**3), length=2.0, mode="C", factor=2.0)
    yield Odd("minuscart.vasp", volume.encode(), SALT)
    for scale in (0, "nan", "inf", "1e400", "-0", "1 -1 1", "one", "1e-300", "-1e300", ""):
        yield Odd(f"scale{scale}.vasp", poscar(scale=scale).encode())
    for counts in (
        "4",
        "4 4 4",
        "4 5",
        "5 4",
        "-4 4",
        "4.0 4",
        "1e9 4",
        "99999999999 4",
        "8 0",
        "2 4",
    ):
        yield Odd(f"counts{counts.replace(' ', '-')}.vasp", poscar(counts=counts).encode())
    for symbols in ("Na", "Na Cl K", "Xx Cl", "D Cl", "", "4 4", "na cl", "Na Na"):
        truth = Truth("Na8", 5.64**3, 221) if symbols == "Na Na" else None
        yield Odd(
            f"symbols{symbols.replace(' ', '-')}.vasp",
            poscar(symbols=symbols).encode(),
            truth,
            True,
        )
    for mode in ("", "Polar", "0 0 0", "Selective dynamics", "é"):
        yield Odd(f"mode{mode}.vasp", poscar(mode=mode).encode())
    fixed = [" ".join(map(str, s[1:])) + " T F T" for s in SALT_SITES]
    yield Odd("selective.vasp", poscar(mode="Selective\nDirect", rows=fixed).encode(), SALT)
    swapped = [" ".join(map(str, s[1:])) + f" {s[0]}" for s in reversed(SALT_SITES)]
    yield Odd("contradicts.vasp", poscar(rows=swapped).encode())
    yield Odd("flat.vasp", poscar(length=0).encode())
    yield Odd("huge.vasp", poscar(length=1e7).encode())
    yield Odd("CONTCAR", poscar().replace("\n", "\r\n").encode(), SALT)
    yield Odd("long.vasp", b"a" * 15_000_000 + poscar().encode(), SALT)


def frames() -> Iterator[Odd]:
    """Frames of extxyz: comment lines, counts, columns."""
    good = FRAME
    yield Odd("good.xyz", xyz().encode(), SALT)
    yield Odd("name.xyz", xyz(good + ' name="a; rm -rf \\"x\\""').encode(), SALT)
    for pbc in ("F F F", "T T F", "0 0 0", "T", "maybe", "T T T T", "[T, T, T]", "1 1 1"):
        truth = SALT if pbc in ("T", "[T, T, T]", "1 1 1") else None
        yield Odd(f"pbc{pbc}.xyz", xyz(f'{good} pbc="{pbc}"').encode(), truth, lenient=True)
    for extra in (
        "pbc=F pbc=T",
        'Lattice="9 0 0 0 9 0 0 0 9"',
        "Properties=species:S:1:pos:R:3:pos:R:3",
    ):
        yield Odd(f"twice{extra[:5]}.xyz", xyz(f"{good} {extra}").encode())
    for kind in (
        "",
        "species:S:1",
        "pos:R:3",
        "species:S:1:pos:R:2",
        "species:S:1:pos:R:-3",
        "species:S:1:pos:R:999999999",
        "species:S:2:pos:R:3",
        "a:b",
        ":::",
        "species:S:1:velo:R:3",
    ):
        text = xyz('Lattice="5.64 0 0 0 5.64 0 0 0 5.64" Properties=' + kind)
        yield Odd(
            f"columns{kind[:30].replace(':', '_')}.xyz",
            text.encode(),
            SALT if not kind else None,
            True,
        )
    for count in (-1, 0, 7, 9, 1e3, "8.0", "9" * 5000, "eight", "8 8", "+8", "٨"):
        truth = SALT if count in ("٨", "+8") else None
        yield Odd(f"count{str(count)[:9]}.xyz", xyz(count=count).encode(), truth, True)
    for mark in ("\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\0"):
        text = xyz(f"{good} note=a{mark}Na 1 1 1")
        yield Odd(f"mark{ord(mark)}.xyz", text.encode(), SALT, lenient=True)
    for lattice in (
        "5.64 5.64 5.64",
        "1 2",
        "nan 0 0 0 1 0 0 0 1",
        "0 0 0 0 0 0 0 0 0",
        "a b c",
        "1e9 0 0 0 1e9 0 0 0 1e9",
        "-5.64 0 0 0 -5.64 0 0 0 -5.64",
    ):
        truth = SALT if "5.64" in lattice else None
        text = xyz(f'Lattice="{lattice}" Properties=species:S:1:pos:R:3')
        yield Odd(f"lattice{lattice[:12]}.xyz", text.encode(), truth, lenient=True)
    for word in ("nan", "inf", "1e308", "D", "X", "0x1", "1,0"):
        rows = [f"Na {word} 0 0" if word[0] in "nie01" else f"{word} 0 0 0"]
        yield Odd(f"atom{word}.xyz", xyz(count=1, rows=rows).encode())
    yield Odd("nolattice.xyz", xyz("just a molecule").encode())
    yield Odd("wide.xyz", xyz(good, 9999, ["Na 0 0 0 " + "1 " * 45_000] * 300).encode())
    yield Odd("empty.extxyz", b"")
    yield Odd("newlines.xyz", b"\n" * 1_000_000)


def objects() -> Iterator[Odd]:
    """JSON: wrong kinds, deep, wide."""
    yield Odd("good.json", json.dumps(as_dict()).encode(), SALT)
    yield Odd("bom.json", b"\xef\xbb\xbf" + json.dumps(as_dict()).encode(), SALT)
    yield Odd("utf16.json", json.dumps(as_dict()).encode("utf-16"), None)
    yield Odd("pbc.json", json.dumps(as_dict(pbc=[True, True, False])).encode())
    yield Odd("nan.json", json.dumps(as_dict(length=math.nan)).encode())
    yield Odd("true.json", json.dumps(as_dict([("Na", True, False, 0), *SALT_SITES[1:]])).encode())
    yield Odd(
        "text.json",
        json.dumps(as_dict([("Na", "0", "0", "0"), *SALT_SITES[1:]])).encode(),
        SALT,
        True,
    )
    yield Odd(
        "cells.json", json.dumps(as_dict() | {"lattice": {"matrix": [[1, 2], [3, 4]]}}).encode()
    )
    yield Odd(
        "module.json", json.dumps(as_dict() | {"@module": "os", "@class": "system"}).encode(), SALT
    )
    twice = json.dumps(as_dict()).replace('"sites"', '"sites": [], "sites"', 1)
    yield Odd("twice.json", twice.encode())
    yield Odd("twicerow.csv", table([{"id": "a", "structure": twice}]).encode())
    yield Odd("deep.json", b"[" * 100_000)
    yield Odd("deepdict.json", b'{"lattice":' * 50_000)
    yield Odd("wide.json", b"[" + b"[]," * 3_000_000 + b"[]]")
    yield Odd("digits.json", b'{"sites": ' + b"9" * 100_000 + b"}")
    for data in (
        b"",
        b"null",
        b"1",
        b'"a"',
        b"[]",
        b"{}",
        b"[null]",
        b'{"structure": {"sites": 1}}',
    ):
        yield Odd(f"tiny{len(data)}{data[:1].hex()}.json", data)


def containers() -> Iterator[Odd]:
    """Tables and archives."""
    yield Odd("good.csv", table([{"id": "007", "cif": cif()}]).encode(), SALT)
    yield Odd("semicolon.csv", table([{"id": "a", "cif": cif()}], ";").encode())
    yield Odd("formula.csv", table([{"id": "=cmd|'/c calc'!A1", "cif": cif()}]).encode(), SALT)
    yield Odd("twice.csv", b"cif,cif\n1,2\n")
    yield Odd("only.csv", b"cif\n")
    yield Odd("path.csv", b"file\n../../../etc/passwd\n/etc/passwd\n")
    yield Odd("utf16.csv", table([{"id": "a", "cif": cif()}]).encode("utf-16"))
    yield Odd("nul.csv", b"id,cif\n\0,\0\n")
    yield Odd("wide.csv", b",".join(b"c%d" % i for i in range(20_000)) + b"\n")
    yield Odd("good.zip", zipped({"a.cif": cif().encode()}), SALT)
    yield Odd("slip.zip", zipped({"../../a.cif": cif().encode()}), SALT, lenient=True)
    yield Odd("bomb.zip", zipped({"a.xyz": b"8\n" + b" " * 100_000_000}))
    yield Odd("manybomb.zip", zipped({f"{i}.cif": b"#" + b"a" * 16_000_000 for i in range(12)}))
    yield Odd("bzip.zip", zipped({"a.cif": cif().encode()}, zipfile.ZIP_BZIP2), SALT)
    yield Odd("nested.zip", zipped({"b.zip": zipped({"a.cif": cif().encode()})}))
    yield Odd("cut.zip", zipped({"a.cif": cif().encode()})[:-30])
    yield Odd("nothing.zip", zipped({}))
    packed = gzip.compress(cif().encode())
    yield Odd("good.cif.gz", packed, SALT)
    yield Odd("twice.cif.gz", gzip.compress(packed))
    yield Odd("cut.cif.gz", packed[:-30])
    yield Odd("bomb.cif.gz", gzip.compress(bytes(10**8)))
    yield Odd("bomb.xyz.gz", gzip.compress(b"8\n" + b" " * 10**8))
    yield Odd("packed.zip", zipped({"a.cif.gz": packed}), SALT)
    for kind in ("parquet", "zip", "csv", "json"):
        yield Odd(f"noise.{kind}", bytes((i * 7919) % 256 for i in range(5000)))
    yield Odd("fake.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1")


def odd_files() -> list[Odd]:
    """All of them; names are those of files."""
    kinds = (cifs, numbers_in_cifs, symmetry_in_cifs, sites_in_cifs, broken_cifs, poscars, frames)
    return [odd for kind in (*kinds, objects, containers) for odd in kind()]
