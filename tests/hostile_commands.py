"""Command lines that nobody would mean, and what they are pointed at, for `hostile_pass`."""

import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from hostile_files import cif, poscar, table, xyz, zipped

import mattergen_lite

QUICK = ("--num-workers", "0", "--no-relax")
CANARY = "EXECUTED"  # file that planted code would leave
CANARY_CODE = f"open({CANARY!r}, 'w').write(__name__)\nraise ImportError('planted')\n"
PLANTED = ("smact", "chgnet", "phonopy", "sitecustomize", "usercustomize", "pandas", "sevenn")
SAMPLING = ("--checkpoint", "tiny", "--num-samples", "1", "--steps", "2")
LABELS = ("labels.parquet", "--property", "gap", "--checkpoint", "tiny", "--out", "o")
BASES = {
    "generate": (*SAMPLING, "--out", "o", *QUICK),
    "score": ("good.cif", "--out", "o", *QUICK),
    "benchmark": ("good.cif", "--protocol", "cdvae", "--out", "o", "--num-workers", "0"),
    "discover": (*SAMPLING, "--rounds", "1", "--out", "good.cif", *QUICK),  # or it learns for long
    "finetune": (*LABELS, "--num-workers", "0"),
    "probe fit": (*LABELS, "--num-workers", "0"),
    "data prepare": ("good.cif", "o.parquet", "--num-workers", "0"),
    "campaign report": ("run", "--out", "o", "--num-workers", "0"),
    "library import": ("http://127.0.0.1:9", "o.parquet"),
}
TEXTS = (
    *(
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "1e308",
        "9" * 400,
        "é\u202e",
        "a=b=c",
        "nothing/..",
    ),
    *("[a", "{x: &a [*a]}", "1..", "..2", "5..1", "1..1e9", "--", "'", "\t", "None", "0x10", "½"),
)
NUMBERS = ("", "nan", "inf", "-1", "1e400", "9" * 30, "1.5", "two", "0x10", "1_0", " ", "٣", "-0")
SOURCES = (
    *(
        "nothing",
        "empty",
        "bad.cif",
        "good.cif",
        "run",
        "fifo.cif",
        "loop.cif",
        "zero.csv",
        "é.cif",
    ),
    *(
        "null.xyz",
        "fifo.yaml",
        "secret.cif",
        "a\0b",
        "a" * 300,
        "/dev/stdin",
        "/proc/self/mem",
        "-",
    ),
    *("labels.csv", "tree", "run/candidates.parquet", "junk.parquet", "brokenrun", "archive.zip"),
)
OVERRIDES = (
    *("run_dir=", "run_dir=[a", "=", "a=b", "trainer=1", "trainer.threads=-1", "loss.types=nan"),
    *("model.network.dim=100000000", "data.path=good.cif", "data.batch_size=0", "seed=1.5"),
    *("optimizer.betas=[1]", "trainer.max_time=x", "init_from=/", "a.b.c.d=1", "run_dir=a\0b"),
)
CONTRADICTIONS = """
--elements Li --exclude Li
--elements Li,Xx
--formula Li99999
--formula LiFeO2 --elements Li
--chemical-system Li-Li
--chemical-system Li-P --formula NaCl
--num-atoms 0
--num-atoms 9999
--num-atoms 3 --formula NaCl
--space-group 231
--space-group cubic --num-atoms 1
--fix-lattice
--fix-sites all
--insert 2
--seed-structure good.cif --fix-sites 99
--seed-structure good.cif --formula NaCl
--condition gap=1
--condition band_gap=nan
--condition band_gap=5..1
--condition band_gap>>1
--condition =1
--condition band_gap=1 --condition band_gap=2
--guidance 2
--guidance band_gap=1
--solver euler
--require metastable
--require a,b
--require ,
--until 1
--keep 0.5
--num-candidates 1 --max-samples 1
--probe good.cif
--probe .
--measured-by none
--reference nothing
--reference good.cif --reference bad.cif
--reference empty
--device cuda:99
--device tpu
--phonons
--bulk-modulus
--dft-inputs
--seed 9223372036854775807
--first-sample 9007199254740992
--strength 0.5 --space-group none
--formula-units 0
--formula NaCl --formula-units 99
--potential none
--time-budget 1
""".strip().splitlines()
SINGLE = """

nothing
--help
--version
score
data
data x
generate x
score a b --out o
library import
library export run x.txt
library export run postgresql://
library export run postgresql://127.0.0.1:9/x
library import ftp://x o.parquet
library import http:// o.parquet
library import materials-project o.parquet --filter x
campaign run
campaign run campaign.yaml --scheduler x --dry-run
campaign run campaign.yaml --cluster nothing --dry-run
campaign status .
train
""".strip("\n").splitlines()


def command_words() -> Iterator[list[str]]:
    """All of them."""
    yield from option_words()
    for extra in CONTRADICTIONS:
        yield with_options("generate", *extra.split())
    yield from source_words()
    for override in OVERRIDES:
        yield ["train", "tiny.yaml", "run_dir=o", override]
        yield ["campaign", "run", "campaign.yaml", "run_dir=o", override, "--dry-run"]
    yield from (line.split() for line in SINGLE)


def option_words(each: int = 5) -> Iterator[list[str]]:
    """Every option of every verb with so many texts or numbers that make no sense."""
    for verb in BASES:
        for place, (option, kinds) in enumerate(options(verb)):
            for number in range(each * place, each * place + each):
                yield with_options(verb, f"{option}={kinds[number % len(kinds)]}")


def options(verb: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Options of a verb that take a value, with the nonsense for their kind."""
    function = getattr(mattergen_lite, verb.replace(" ", "_"))
    for one in inspect.signature(function).parameters.values():
        if one.kind is one.KEYWORD_ONLY and one.annotation is not bool:
            text = "str" in str(one.annotation) or "Path" in str(one.annotation)
            yield f"--{one.name.replace('_', '-')}", TEXTS if text else NUMBERS


def with_options(verb: str, *extra: str) -> list[str]:
    """A command that works but for these options, which replace its own."""
    base = list(BASES[verb])
    said = {word.split("=")[0] for word in extra if word.startswith("--")}
    for option in said & {*base}:
        place = base.index(option)
        del base[place : place + (1 if option == "--no-relax" else 2)]
    return [*verb.split(), *base, *extra]


def source_words() -> Iterator[list[str]]:
    """Whatever reads or writes a file, given what may not be one."""
    for source, verb in product(
        SOURCES, ("score", "data prepare", "benchmark", "probe fit", "finetune")
    ):
        yield [*verb.split(), source, *BASES[verb][1:]]
    for source in SOURCES:
        yield ["library", "export", source, "x.jsonl"]
        yield ["library", "export", "run", f"{source}/x.db"]
        yield ["campaign", "status", source]
        yield ["campaign", "report", source, "--num-workers", "0"]
        yield ["campaign", "run", source, "run_dir=o", "--dry-run"]
        yield ["campaign", "run", "campaign.yaml", f"source={source}", "run_dir=o", "--dry-run"]
        yield ["data", "info", source]
        yield ["data", "prepare", "good.cif", source, "--num-workers", "0"]
        yield ["train", source, "run_dir=o"]
        yield with_options("score", "--reference", source)
        yield with_options("score", "--out", source)
        yield with_options("generate", "--seed-structure", source)
        yield with_options("generate", "--checkpoint", source)
        yield with_options("benchmark", "--protocol", "csp", "--truth", source)


def labelled() -> Iterator[dict[str, object]]:
    """Six different salts with a number: too few to learn from."""
    for number, (cation, anion) in enumerate(product(("Li", "Na", "K"), ("F", "Cl"))):
        text = cif().replace("Na", cation).replace("Cl", anion)
        yield {"id": f"{number:03d}", "gap": 1.5 + number, "cif": text}


def make_sources(folder: Path, run: Callable[..., object]) -> None:
    """What the commands are pointed at; `run` executes a command in the folder."""
    (folder / "good.cif").write_text(cif())
    (folder / "é.cif").write_text(cif())
    (folder / "bad.cif").write_text("data_a\n_atom_site_fract_x nan\n")
    (folder / "archive.zip").write_bytes(zipped({"a.cif": cif().encode(), "b.xyz": xyz().encode()}))
    (folder / "labels.csv").write_text(table(list(labelled())))
    (folder / "junk.parquet").write_bytes(b"PAR1" * 9)
    (folder / "tiny.yaml").write_text("trainer: {devices: 1}\n")
    (folder / "campaign.yaml").write_text("source: good.cif\njudge: {relax: false}\n")
    links = {"loop.cif": "loop.cif", "zero.csv": "/dev/zero", "null.xyz": "/dev/null"}
    for link, target in (links | {"secret.cif": "/etc/shadow"}).items():
        (folder / link).symlink_to(target)
    (folder / "empty").mkdir()
    tree = folder / "tree"
    tree.mkdir()
    for pipe in (folder / "fifo.cif", folder / "fifo.yaml", tree / "pipe.cif"):
        os.mkfifo(pipe)
    for name in ("a b.cif", "=1+1.cif", "$(id).cif", "x\u202e.cif", "n\nl.cif"):
        (tree / name).write_text(cif())
    (tree / "-.cif").write_text("data_")
    (tree / "POSCAR").write_text(poscar())
    (tree / "up").symlink_to("..")
    (folder / os.fsdecode(b"tree/\xff\xfe.cif")).write_text(cif())
    for name in PLANTED:
        (folder / f"{name}.py").write_text(CANARY_CODE)
    run("data", "prepare", "labels.csv", "labels.parquet", "--num-workers", "0")
    run(*with_options("generate", "--out", "run"))
    shutil.copytree(folder / "run", folder / "brokenrun")
    (folder / "brokenrun" / "candidates.parquet").write_bytes(b"PAR1")
    (folder / "brokenrun" / "structures.extxyz").write_text("9\n")
