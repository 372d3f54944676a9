"""Functions whose option classes are spread into keywords: `generate(out=..., steps=20)`.

    @flat
    def generate(*, out: Path, sampler: SamplerOptions, seed: Seed = 0) -> None: ...

takes `out`, `seed` and every field of `SamplerOptions` by name, or `sampler` as a whole. The
command line and `help` see the flat signature, and all docstrings in one.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from pydantic import PlainValidator, TypeAdapter

from mattergen_lite.options.checks import check_text, checked_value
from mattergen_lite.options.renamed import check_names

P = ParamSpec("P")
R = TypeVar("R")


def flat(function: Callable[P, R]) -> Callable[..., R]:
    """The function with the fields of its option classes as keywords; all arguments are checked."""
    signature = inspect.signature(function)
    groups = {  # name of a parameter -> options it stands for, with their defaults
        name: parameter.annotation() if parameter.default is parameter.empty else parameter.default
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }
    flattened = _flattened(signature, groups)

    @wraps(function)
    def call(*args: object, **keywords: object) -> R:
        check_names(keywords)
        whole = {name: keywords.pop(name, default) for name, default in groups.items()}
        bound = flattened.bind(*args, **keywords)
        for name, options in whole.items():
            given = [option.name for option in fields(options) if option.name in bound.arguments]
            whole[name] = replace(options, **{field: bound.arguments.pop(field) for field in given})
        for name, value in bound.arguments.items():
            parameter = flattened.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                check_text(name, value)
            elif value is not parameter.default:  # which may be empty: nobody says it by accident
                bound.arguments[name] = checked_value(name, value, parameter.annotation)
        return function(*bound.args, **bound.kwargs, **whole)

    call.__signature__ = flattened
    call.__annotations__ = {
        name: parameter.annotation for name, parameter in flattened.parameters.items()
    }
    head, args, rest = (inspect.getdoc(function) or "").partition("Args:\n")
    call.__doc__ = head + args + "".join(map(_attributes, groups.values())) + rest
    return call


def arguments_of(*options: object, **others: object) -> dict[str, object]:
    """Fields of options as records have them, and other arguments, as one flat mapping."""
    written = [TypeAdapter(type(option)).dump_python(option) for option in options]
    return {name: value for values in written for name, value in values.items()} | others


def _flattened(signature: inspect.Signature, groups: Mapping[str, object]) -> inspect.Signature:
    """The signature with the fields of options as keywords in their place."""
    parameters = []
    for name, parameter in signature.parameters.items():
        parameters += _parameters_of(groups[name]) if name in groups else [parameter]
    return signature.replace(parameters=parameters)


def _parameters_of(options: object) -> list[inspect.Parameter]:
    hints = get_type_hints(type(options), include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(options, field.name),
            annotation=_given(hints[field.name]),
        )
        for field in fields(options)
    ]


def _given(annotation: object) -> object:
    """The type that a person gives: text, for what is read from text."""
    if get_origin(annotation) is Annotated:
        readers = [
            marker for marker in annotation.__metadata__ if isinstance(marker, PlainValidator)
        ]
        return readers[0].json_schema_input_type if readers else annotation
    optional = [part for part in get_args(annotation) if get_origin(part) is Annotated]
    return _given(optional[0]) | None if optional else annotation


def _attributes(options: object) -> str:
    """The lines of a docstring on the fields of options."""
    lines = inspect.getdoc(type(options)).partition("Attributes:\n")[2].rstrip()
    return f"{lines}\n"
