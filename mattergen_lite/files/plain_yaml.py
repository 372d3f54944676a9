"""YAML as plain data, whoever wrote it: every key once, numbers as people read them."""

import re
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_YAML = 2**20  # characters of a file
_INT = "tag:yaml.org,2002:int"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ValueError: If the file is missing, is not valid YAML or holds no mapping.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe may never end
            raise ValueError("it is no file")
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_YAML + 1)
        if len(text) > MAX_YAML:
            raise ValueError(f"more than {MAX_YAML} characters")
        tree = parse_yaml(text)
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(
            f"cannot read configuration {path}: {str(error).splitlines()[0]}"
        ) from None
    if not isinstance(tree, dict):
        raise ValueError(f"cannot read configuration {path}: expected `key: value` lines")
    return tree


class _PlainLoader(yaml.SafeLoader):
    """YAML 1.1 without its traps.

    A few aliases can stand for more data than there is memory; of a key that is there twice one
    value would be ignored; 0100 is a hundred, not 64, and 10:30 is no number.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  # as PyYAML has it
        first: [(tag, pattern) for tag, pattern in known if tag != _INT]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not accepted: write the values out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name in (name for name, number in keys.items() if number > 1):
            raise yaml.YAMLError(f"the key {name[:60]!r} twice: expected it once")
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """A whole number, in decimal digits."""
        return int(self.construct_scalar(node))


_PlainLoader.add_implicit_resolver(_INT, re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_PlainLoader.add_constructor(_INT, _PlainLoader.construct_whole)


def parse_yaml(text: str) -> object:
    """Plain data from YAML.

    Raises:
        ValueError: If it is not valid, nested too deeply or has aliases.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise ValueError(reason[0]) from None
