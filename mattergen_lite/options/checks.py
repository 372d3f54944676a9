"""Types of options with their bounds, and the decorator that makes a class of options of them."""

from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

Options = TypeVar("Options")

MAX_TEXT = 10_000  # characters
CONFIG = ConfigDict(
    extra="forbid",
    allow_inf_nan=False,
    coerce_numbers_to_str=True,
    str_min_length=1,
    str_max_length=MAX_TEXT,
)

# What an option has to be, by the kind of pydantic's error.
_EXPECTED = {
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "finite_number": "a finite number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "path_type": "a path",
    "string_type": "text",
    "literal_error": "{expected}",
}


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _one_or_more(value: object) -> object:
    """A single text or path as several."""
    return (value,) if isinstance(value, str | Path) else value


Count = Annotated[int, Field(ge=1, le=10**9)]
Length = Annotated[int, Field(ge=0, le=10**6)]  # of a list that may be empty
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[int, Field(ge=0, le=2**53)]  # of a sample
Workers = Annotated[int, Field(ge=0, le=4096)]
OptimizerSteps = Annotated[int, Field(ge=1, le=10**8)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Atoms = Annotated[int, Field(ge=1, le=10_000)]
Minutes = Annotated[float, Field(ge=1e-9, le=10**6)]
LearningRate = Annotated[float, Field(ge=1e-12, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
NameOrPath = Annotated[str, BeforeValidator(_as_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_one_or_more)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def options(cls: type[Options]) -> type[Options]:
    """Make a frozen class of options, whose values are checked and converted once.

    Raises:
        ValueError: When an object is made of a value that does not fit; one line.
    """
    cls._check_texts = model_validator(mode="before")(classmethod(_check_texts))
    checked = dataclass(frozen=True, kw_only=True, config=CONFIG)(cls)
    init = checked.__init__

    @wraps(init)
    def __init__(self: Options, **values: object) -> None:  # noqa: N807
        try:
            init(self, **values)
        except ValidationError as error:
            raise ValueError(complaint(error)) from None

    checked.__init__ = __init__
    return checked


def _check_texts(cls: type, given: object) -> object:
    """Refuse empty texts among what an object of options is made of."""
    values = given.kwargs if isinstance(given, ArgsKwargs) else given
    for name, value in values.items() if isinstance(values, dict) else ():
        check_text(name, value)
    return given


def checked_value(name: str, value: object, annotation: object) -> Any:  # noqa: ANN401
    """The value of an option as its type has it.

    Raises:
        ValueError: If it does not fit; names the option.
    """
    check_text(name, value)
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        raise ValueError(complaint(error, name)) from None


def check_text(name: str, value: object) -> None:
    """Refuse a text that is empty, as that of a shell variable that is not set, or is no text.

    Raises:
        ValueError: If a text, or one of several, is so.
    """
    for text in value if isinstance(value, list | tuple) else [value]:
        if isinstance(text, str) and not text.strip():
            raise ValueError(f"{name} is empty: expected a value, or leave the option out")
        if isinstance(text, str) and (len(text) > MAX_TEXT or "\0" in text):
            count = len(text)
            raise ValueError(f"{name} has {count} characters: expected at most {MAX_TEXT} of text")


def complaint(error: ValidationError, name: str = "") -> str:
    """The first complaint of pydantic, such as "seed is 1.5: expected a whole number"."""
    first = error.errors()[0]
    context = first.get("ctx", {})
    if "error" in context:
        return str(context["error"])
    name = name or ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"{name} is missing: expected a value"
    given = first["input"]
    is_plain = given is None or isinstance(given, str | int | float | Path)
    shown = " ".join(str(given).split())[:60] if is_plain else f"of type {type(given).__name__}"
    said = first["msg"][:1].lower() + first["msg"][1:]
    known = _EXPECTED.get(first["type"])
    return f"{name} is {shown}: expected {known.format(**context) if known else said}"
