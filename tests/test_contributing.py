"""The examples of CONTRIBUTING.md, as they stand there."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example):
    assert "assert " in example
    exec(compile(example, "CONTRIBUTING.md", "exec"), {"__name__": "example"})


def test_there_is_an_example_of_each_kind():
    for kind in ("criterion", "property", "constraint", "potential"):
        assert f"**A {kind}**" in TEXT
    assert len(EXAMPLES) == 4
