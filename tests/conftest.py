"""One thread a test process: tests run side by side, and oversubscribed threads wait.

Tests that are listed in `slow.txt`, by file or by name, are marked `slow`. The list is measured:
`pytest --measure seconds.tsv` writes the CPU seconds of every test, its processes included.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

SLOW = Path(__file__).with_name("slow.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=0, help="examples a reader in tests/test_fuzz.py")
    parser.addoption("--measure", type=Path, help="file for the CPU seconds of every test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lines = SLOW.read_text().splitlines()
    slow = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    for item in items:
        file = item.nodeid.partition("::")[0].removeprefix("tests/")
        name = item.nodeid.removeprefix("tests/").partition("[")[0]
        if slow & {file, name}:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    before = sum(os.times()[:4])
    result = yield
    if (path := item.config.getoption("--measure")) is not None:
        with path.open("a") as file:
            file.write(f"{sum(os.times()[:4]) - before:.2f}\t{item.nodeid}\n")
    return result
