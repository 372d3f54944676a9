"""Divides a campaign into units, each keyed by all that determines its result.

A unit is a block of sample numbers, or of structures of a source. Its key is a digest of the
model's weights, the requests, the way of judging, the seed and the block, so that the same unit is
the same file wherever and however often it is worked out. The folder of a campaign keeps to one set
of determinants; only the number of samples may grow.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mattergen_lite.config import CampaignConfig
from mattergen_lite.files.folders import check_plain, write_text
from mattergen_lite.hub import find_checkpoint
from mattergen_lite.io.read import iter_documents
from mattergen_lite.io.records import Document

MANIFEST = "campaign.json"
FORMAT = 1  # of the manifest and its parts; raised when older programs would misread them
_MANIFEST_TYPES = {"config": dict, "determinants": dict, "num_samples": int}


class Unit(NamedTuple):
    """Crystals that are made, judged and stored together."""

    key: str
    start: int  # number of the first sample, or of the first structure of the source
    stop: int
    documents: tuple[Document, ...] = ()  # of a source, not parsed yet


@dataclass(frozen=True)
class CampaignPlan:
    """A campaign's configuration and everything that determines its results."""

    config: CampaignConfig
    determinants: dict[str, object]

    @classmethod
    def of(cls, config: CampaignConfig) -> "CampaignPlan":
        """Look at every file that the configuration names.

        Raises:
            ValueError: If one is missing, or the samples are no whole number of units.
        """
        if config.source is None and config.num_samples % config.unit_size:
            raise ValueError(
                f"num_samples is {config.num_samples}: expected a multiple of unit_size "
                f"({config.unit_size})"
            )
        return cls(config, _determinants(config))

    @classmethod
    def read(cls, run_dir: Path) -> "CampaignPlan":
        """The plan of an existing campaign.

        Raises:
            ValueError: If there is none in this folder.
        """
        manifest = read_manifest(run_dir)
        config = CampaignConfig.parse(manifest["config"] | {"run_dir": run_dir})
        return cls(config, manifest["determinants"])

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what all units have in common."""
        return _digest(self.determinants)

    @cached_property
    def num_samples(self) -> int:
        """Crystals of the whole campaign."""
        if self.config.source is None:
            return self.config.num_samples
        return sum(1 for _ in iter_documents(self.config.source))

    def units(self) -> Iterator[Unit]:
        """All units, in order."""
        if self.config.source is not None:
            yield from self._source_units(self.config.source)
            return
        first, size = self.config.first_sample, self.config.unit_size
        for start in range(first, first + self.config.num_samples, size):
            yield Unit(self._key(start, start + size), start, start + size)

    def _source_units(self, source: Path) -> Iterator[Unit]:
        start, stream = 0, iter_documents(source)
        while block := tuple(islice(stream, self.config.unit_size)):
            documents, stop = _named_apart(block), start + len(block)
            contents = [
                (document.name, document.format, document.content, document.labels)
                for document in documents
            ]
            yield Unit(self._key(start, stop, _digest(contents)), start, stop, documents)
            start = stop

    def _key(self, *block: object) -> str:
        return _digest([self.fingerprint, *block])[:32]

    def save(self, record: dict[str, str]) -> None:
        """Write the manifest, unless it would mix two campaigns in one folder.

        Raises:
            ValueError: If the folder holds a campaign that differs, or more samples of this one.
        """
        path = self.config.run_dir / MANIFEST
        if path.exists():
            self._check_same(CampaignPlan.read(self.config.run_dir))
        manifest = {
            "format": FORMAT,
            "config": self.config.model_dump(mode="json"),
            "determinants": self.determinants,
            "fingerprint": self.fingerprint,
            "num_samples": self.num_samples,
            "started": record,
        }
        write_text(json.dumps(manifest, indent=2) + "\n", path)

    def _check_same(self, earlier: "CampaignPlan") -> None:
        folder = self.config.run_dir
        if self.fingerprint != earlier.fingerprint:
            mine, theirs = _flat(self.determinants), _flat(earlier.determinants)
            differing = next(key for key in {**theirs, **mine} if mine.get(key) != theirs.get(key))
            raise ValueError(
                f"{folder} holds a campaign with another {differing} "
                f"({theirs.get(differing)}, now {mine.get(differing)}): choose another run_dir"
            )
        if self.config.num_samples < earlier.config.num_samples:
            raise ValueError(
                f"num_samples is {self.config.num_samples}: expected at least the "
                f"{earlier.config.num_samples} that {folder} was started for"
            )


def read_manifest(run_dir: Path) -> dict[str, object]:
    """Read the manifest of a campaign's folder.

    Raises:
        ValueError: If there is no campaign, or its manifest is damaged or of a newer version.
    """
    path = run_dir / MANIFEST
    check_plain(run_dir)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ValueError(f"{run_dir} holds no campaign: expected a {MANIFEST}") from None
    number = manifest.get("format", 1) if isinstance(manifest, dict) else 1
    if number != 1 and number != FORMAT:
        raise ValueError(
            f"{path} has format {number!r}, this version reads up to {FORMAT}: "
            "use a newer version of mattergen-lite"
        )
    damaged = not isinstance(manifest, dict) or any(
        not isinstance(manifest.get(name), kind) for name, kind in _MANIFEST_TYPES.items()
    )
    if damaged:
        raise ValueError(f"{path} is damaged: expected {', '.join(_MANIFEST_TYPES)}")
    return manifest


def _named_apart(documents: tuple[Document, ...]) -> tuple[Document, ...]:
    """The documents with a number behind every name that occurred before."""
    taken: set[str] = set()
    named = []
    for document in documents:
        name, number = document.name, 1
        while name in taken:
            number += 1
            name = f"{document.name}#{number}"
        taken.add(name)
        named.append(replace(document, name=name))
    return tuple(named)


def _determinants(config: CampaignConfig) -> dict[str, object]:
    """Everything on which a result depends, files by their content."""
    plain = config.model_dump(mode="json")
    judge = plain["judge"]
    judge["reference"] = [_content(path) for path in config.judge.reference]
    common: dict[str, object] = {
        "mattergen_lite": version("mattergen-lite"),
        "unit_size": config.unit_size,
        "judge": judge,
    }
    if config.source is not None:
        return common | {"source": _content(config.source)}
    asked = config.generate
    generate = plain["generate"] | {
        "checkpoint": _content(find_checkpoint(asked.checkpoint)),
        "probe": [_content(path) for path in asked.probe],
        "seed_structure": asked.seed_structure and _content(asked.seed_structure),
    }
    return common | {
        "generate": generate,
        "seed": config.seed,
        "first_sample": config.first_sample,
    }


def _content(path: Path) -> str:
    """Digest of a file, or of all files in a folder but what is only for people."""
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(entry for entry in path.rglob("*") if entry.is_file() and entry.suffix != ".md")
    return _digest([(entry.relative_to(path).as_posix(), _content(entry)) for entry in files])


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Leaves by their dotted path."""
    leaves: dict[str, object] = {}
    for key, value in tree.items():
        leaves |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return leaves
