"""Functions whose option classes are spread into keywords: `generate(out=..., steps=20)`.

    @flat
    def generate(*, out: Path, sampler: SamplerOptions, seed: Seed = 0) -> None: ...

takes `out`, `seed` and every field of `SamplerOptions` by name, or `sampler` as a whole, and its
docstring has them all. Fields that are texts for the command line take objects too, see
`as_option`. The command line and `help` see the flat signature.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from functools import wraps
from typing import ParamSpec, TypeVar, get_type_hints

from mattergen_lite.options.checks import check
from mattergen_lite.options.objects import as_option
from mattergen_lite.options.renamed import check_names

P = ParamSpec("P")
R = TypeVar("R")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def flat(function: Callable[P, R]) -> Callable[..., R]:
    """The function with the fields of its option classes as keywords; all arguments are checked."""
    signature = inspect.signature(function)
    groups = {  # name of a parameter -> options it stands for, with their defaults
        name: one.annotation() if one.default is one.empty else one.default
        for name, one in signature.parameters.items()
        if is_dataclass(one.annotation)
    }
    flattened = _flattened(signature, groups)
    types = [one.annotation for one in flattened.parameters.values() if one.kind in _POSITIONAL]

    @wraps(function)
    def call(*args: object, **keywords: object) -> R:
        check_names(keywords)
        args = (*map(as_option, args, types), *args[len(types) :])
        for name in flattened.parameters.keys() & keywords.keys():
            keywords[name] = as_option(keywords[name], flattened.parameters[name].annotation)
        whole = {name: keywords.pop(name, default) for name, default in groups.items()}
        _check_arguments(flattened.bind(*args, **keywords))
        for name, options in whole.items():
            given = [field.name for field in fields(options) if field.name in keywords]
            whole[name] = replace(options, **{one: keywords.pop(one) for one in given})
        return function(*args, **keywords, **whole)

    call.__signature__ = flattened
    call.__annotations__ = {name: one.annotation for name, one in flattened.parameters.items()}
    call.__doc__ = _with_attributes(inspect.getdoc(function) or "", groups)
    return call


def arguments_of(*options: object, **others: object) -> dict[str, object]:
    """Fields of options and other arguments as one flat mapping, for the record of a run."""
    return {name: value for one in options for name, value in asdict(one).items()} | others


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
            annotation=hints[field.name],
        )
        for field in fields(options)
    ]


def _check_arguments(bound: inspect.BoundArguments) -> None:
    for name, value in bound.arguments.items():
        parameter = bound.signature.parameters[name]
        if value is not parameter.default:  # which may be empty: nobody says it by accident
            check(name, value, parameter.annotation)


def _with_attributes(text: str, groups: Mapping[str, object]) -> str:
    """The docstring with the attributes of options in the place of their names."""
    for name, options in groups.items():
        attributes = inspect.getdoc(type(options)).partition("Attributes:\n")[2].rstrip()
        text, replaced = re.subn(
            rf"^    {name}: .*$", lambda _, attributes=attributes: attributes, text, flags=re.M
        )
        if replaced != 1:
            raise TypeError(f"docstring: expected one line on {name}")
    return text
