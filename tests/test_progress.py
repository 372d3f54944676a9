"""Progress in a terminal and in a log."""

import io

import pytest

import mattergen_lite.console as progress_module
from mattergen_lite.console import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def patient(monkeypatch):
    """Lines for every item, and at the end."""
    monkeypatch.setattr(progress_module, "EVERY", 0.0)
    monkeypatch.setattr(progress_module, "NOTHING_SAID", -1.0)


def test_a_log_has_lines(patient):
    log = io.StringIO()
    assert list(ProgressBar(range(3), desc="relax", file=log, disable=None, miniters=1)) == [
        0,
        1,
        2,
    ]
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("relax: 1 of 3, 00:00, 00:00 left")
    assert lines[-1].startswith("relax: 3 of 3")
    assert "\r" not in log.getvalue()


def test_a_log_says_nothing_of_what_is_over_at_once():
    log = io.StringIO()
    with ProgressBar(total=5, file=log) as bar:
        bar.update(5)
    assert log.getvalue() == ""


def test_a_terminal_has_a_bar():
    terminal = Terminal()
    list(ProgressBar(range(3), desc="relax", file=terminal, mininterval=0))
    assert "relax: 100%" in terminal.getvalue()


def test_whoever_wants_silence_has_it(patient):
    log = io.StringIO()
    list(ProgressBar(range(3), file=log, disable=True))
    assert log.getvalue() == ""
