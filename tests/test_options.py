"""Every option of every verb refuses what no option may have, with exit code 2, before any work."""

import inspect
import re
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest
from cyclopts import CycloptsError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

import mattergen_lite
from mattergen_lite import cli
from mattergen_lite.commands import COMMANDS
from mattergen_lite.config import CampaignConfig
from mattergen_lite.options.checks import Share, Texts, checked_value
from mattergen_lite.options.groups import HELP_GROUPS
from mattergen_lite.options.request import Request
from mattergen_lite.options.texts import parse_range
from mattergen_lite.properties import Property
from mattergen_lite.request.constraints import parse_constraints
from mattergen_lite.request.targets import parse_targets

KNOWN_PROPERTIES = (
    Property(name="density", unit="g/cm³"),
    Property(name="space_group", kind="category", num_categories=230),
    Property(name="chemical_system", kind="elements"),
)
VERBS = {
    name.replace("_", " "): getattr(mattergen_lite, name)
    for name in COMMANDS
    if name not in ("train", "data_info", "campaign_run", "campaign_status", "campaign_work")
}


def options(kind):
    """Every option of a kind, as (command, name)."""
    return [
        (command, name)
        for command, verb in VERBS.items()
        for name, one in inspect.signature(verb).parameters.items()
        if one.kind is one.KEYWORD_ONLY and kind in _kinds(one.annotation)
    ]


def _kinds(annotation):
    if get_origin(annotation) is Annotated:
        return _kinds(annotation.__origin__)
    if get_origin(annotation) in (None,):
        return {annotation}
    return set().union(*(_kinds(part) for part in get_args(annotation)))


def bounds_of(annotation):
    """Lowest and highest value of a number; None where a type has none."""
    if get_origin(annotation) is Annotated:
        for one in annotation.__metadata__:
            if isinstance(one, FieldInfo) and len(one.metadata) == 2:
                low, high = one.metadata
                return low.ge, high.le if hasattr(high, "le") else high.lt - 1
        return None
    return next(filter(None, map(bounds_of, get_args(annotation))), None)


@pytest.mark.parametrize("command", VERBS)
def test_help_loses_no_placeholder(command, capsys):
    """Angle brackets outside code are markup, and vanish."""
    with pytest.raises(SystemExit):
        cli.app([*command.split(), "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for named in re.findall(r"<\w+>", inspect.getdoc(VERBS[command]).partition("Args:")[0]):
        assert named in text


def test_help_lists_what_is_asked_before_how_it_is_done(capsys):
    with pytest.raises(SystemExit):
        cli.app(["generate", "--help"])
    text = capsys.readouterr().out
    places = [text.index(f"─ {title} ─") for title in HELP_GROUPS]
    assert places == sorted(places)
    listed = [name for names in HELP_GROUPS.values() for name in names]
    assert len(listed) == len({*listed})
    known = {name for verb in VERBS.values() for name in inspect.signature(verb).parameters}
    assert {*listed} - {"verbose"} <= known


NEEDED = {
    "generate": ["--out=nowhere"],
    "score": ["nowhere", "--out=nowhere"],
    "benchmark": ["nowhere", "--out=nowhere", "--protocol=cdvae"],
    "discover": ["--out=nowhere"],
    "finetune": ["nowhere", "--out=nowhere", "--property=gap"],
    "probe fit": ["nowhere", "--out=nowhere", "--property=gap"],
    "data prepare": ["nowhere", "nowhere.parquet"],
    "data show": ["mp-1", "--out=nowhere.cif"],
    "predict": ["--out=nowhere", "--formula=NaCl"],
    "complete": ["--out=nowhere", "--seed-structure=nowhere.cif"],
    "calibrate": ["--out=nowhere", "--potential=chgnet"],
    "campaign report": ["nowhere"],
    "verify": ["nowhere"],
    "library import": ["nowhere", "nowhere.parquet"],
}


def refusal(command, name, word):
    """What is said of an option's word; nothing of it may reach the verb."""
    flag = f"--{name.replace('_', '-')}"
    needed = [one for one in NEEDED[command] if not one.startswith(f"{flag}=")]
    with pytest.raises((ValueError, CycloptsError)) as refused:
        cli.app([*command.split(), *needed, f"{flag}={word}"])
    message = str(refused.value)
    assert name in message.replace("-", "_")
    return message


@pytest.mark.parametrize(("command", "name"), options(int) + options(float))
def test_numbers_have_bounds(command, name):
    assert bounds_of(inspect.signature(VERBS[command]).parameters[name].annotation)


@pytest.mark.parametrize(("command", "name"), options(int))
def test_the_numbers_beside_the_bounds_are_refused(command, name):
    """A limit of 0 structures, 5 samples too few."""
    low, high = bounds_of(inspect.signature(VERBS[command]).parameters[name].annotation)
    for number in (low - 1, high + 1):
        assert "expected" in refusal(command, name, str(number))


@pytest.mark.parametrize(("command", "name"), options(int))
@pytest.mark.parametrize("word", ["1.5", "nan", "1e3", "", " ", "x"])
def test_whole_numbers_are_not_rounded(command, name, word):
    assert "expected a whole number" in refusal(command, name, word) or not word.strip()


@pytest.mark.parametrize(("command", "name"), options(float))
@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "-1", "1e300", ""])
def test_numbers_are_finite_and_bounded(command, name, word):
    assert "expected" in refusal(command, name, word)


@pytest.mark.parametrize(("command", "name"), options(str) + options(Path))
@pytest.mark.parametrize("word", ["", "  "])
def test_an_empty_shell_variable_is_no_value(command, name, word):
    assert "it is empty" in refusal(command, name, word)


def test_python_callers_are_checked_too(tmp_path):
    for arguments, reason in {
        ("elements", ""): "elements is empty",
        ("condition", ("band_gap=1", " ")): "condition is empty",
        ("eta", float("inf")): "eta is inf: expected a finite number",
        ("seed", 1.5): "seed is 1.5: expected a whole number",
        ("max_samples", -5): "max_samples is -5: expected 1",
        ("s_noise", float("nan")): "s_noise is nan",
    }.items():
        with pytest.raises(ValueError, match=reason):
            mattergen_lite.generate(out=tmp_path / "out", **dict([arguments]))
    assert not (tmp_path / "out").exists()


def test_old_names_are_refused_with_the_new_one(monkeypatch, capsys):
    for words, reason in {
        ("steer", "data.csv"): "steer is now called probe fit",
        ("generate", "--out=x", "--vacancies=2"): "--vacancies is now called --insert",
        ("score", "x", "--no-elastic"): "--no-elastic is now called --bulk-modulus",
    }.items():
        monkeypatch.setattr("sys.argv", ["mattergen-lite", *words])
        with pytest.raises(SystemExit):
            cli.main()
        assert reason in capsys.readouterr().err
    with pytest.raises(ValueError, match="churn is now called eta"):
        mattergen_lite.generate(out=Path("nowhere"), churn=1.0)
    with pytest.raises(ValueError, match=r"generate\.temperature is now called s_noise"):
        CampaignConfig.load([], ["run_dir=x", "generate.temperature=1"])


def test_guidance_needs_a_condition():
    with pytest.raises(ValueError, match="guidance 2 without a condition"):
        parse_targets([], ["2"], KNOWN_PROPERTIES)
    with pytest.raises(ValueError, match="expected a weight of 0 to 100"):
        parse_targets(["density=3"], ["1e30"], KNOWN_PROPERTIES)


def test_ranges_are_bounded():
    for text in ("1..1000000000", "9" * 5000, "5..4", "0..", "..3", "-1"):
        with pytest.raises(ValueError, match=r"^(?!.*\n)"):
            parse_range(text)
    assert parse_range("4..12") == (4, 12)


# Any text at all: a value, or one line that says why not

ANY_TEXT = st.text(max_size=60) | st.from_regex(r"[A-Za-z]{1,3}[-,.=<>0-9A-Za-z]{0,20}")


def answered_in_one_line(function, *arguments, **more):
    """Whether a function takes its arguments, or says in one line why not."""
    try:
        function(*arguments, **more)
    except ValueError as error:
        return "\n" not in str(error) and 0 < len(str(error)) < 2000
    return True


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=2000)
@given(ANY_TEXT)
def test_any_text_is_a_constraint_or_one_line(text):
    names = ("elements", "chemical_system", "exclude", "formula", "formula_units", "num_atoms")

    def constraints(name):
        return parse_constraints(Request(**{name: text}))

    for name in names:
        assert answered_in_one_line(constraints, name), name


@settings(deadline=2000)
@given(st.sampled_from(KNOWN_PROPERTIES), ANY_TEXT, ANY_TEXT)
def test_any_text_is_a_target_or_one_line(prop, value, weight):
    for text in (value, f"{prop.name}={value}", f"{prop.name}>{value}"):
        assert answered_in_one_line(parse_targets, [text], [weight], KNOWN_PROPERTIES)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.lists(st.text(), max_size=3)))
def test_any_value_is_checked_or_one_line(value):
    for annotation in (str, int | None, Share, Texts):
        assert answered_in_one_line(checked_value, "option", value, annotation)
        assert answered_in_one_line(checked_value, "option", str(value), annotation)
