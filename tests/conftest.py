"""One thread a test process: tests run side by side, and oversubscribed threads wait."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=0, help="examples a reader in tests/test_fuzz.py")
