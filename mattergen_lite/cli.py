"""The command line: the functions of `commands`, bad input as one line and exit code 2.

Exit codes are 0 for success, 2 for what is wrong with the input, the disk or the network, 130 after
an interrupt from the keyboard and 143 after SIGTERM; the same command goes on where it was.
"""

import inspect
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, get_args, get_type_hints

from cyclopts import App, CycloptsError, Group, Parameter, Token, convert

from mattergen_lite.commands import COMMANDS, JUDGING, module_of
from mattergen_lite.options.checks import check_text, checked_value
from mattergen_lite.options.groups import HELP_GROUPS
from mattergen_lite.options.renamed import check_words
from mattergen_lite.processes import module_path

BAD_INPUT = 2
INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}
TRACEBACK = "MATTERGEN_LITE_TRACEBACK"  # variable that asks for the whole of an unexpected error
FEW = 20  # options, which the help of a command lists without groups
GROUP_OF = {
    name: Group(title, sort_key=place)
    for place, (title, names) in enumerate(HELP_GROUPS.items(), start=1)
    for name in names
}

VERBOSE = inspect.Parameter(
    "verbose",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, Parameter(help="Print every share with its protocol, hit rates and times.")
    ],
)


def printed(name: str, function: Callable[..., object]) -> Callable[..., None]:
    """The function as a command: same arguments, its outcome printed instead of returned.

    Dropping the return type matters: cyclopts evaluates annotations, and importing the classes that
    functions return would cost `--help` the seconds that torch takes to load.
    """
    extra = [VERBOSE] if name in JUDGING else []

    @wraps(function)
    def command(*args: object, **kwargs: object) -> None:
        more = {
            parameter.name: kwargs.pop(parameter.name, parameter.default) for parameter in extra
        }
        outcome = function(*args, **kwargs)
        print(outcome.text(**more) if hasattr(outcome, "text") else outcome)

    signature = inspect.signature(function)
    given = [*signature.parameters.values(), *extra]
    plain = get_type_hints(function) | {"verbose": bool}  # without bounds, which `flat` checks
    parameters = [
        _option(parameter, plain[parameter.name], in_groups=len(given) > FEW) for parameter in given
    ]
    command.__signature__ = signature.replace(
        parameters=parameters, return_annotation=inspect.Signature.empty
    )
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _option(parameter: inspect.Parameter, plain: object, *, in_groups: bool) -> inspect.Parameter:
    """A parameter as an option in its group of the help, whose words are checked."""
    more = {"negative_iterable": ()}
    if plain is not bool:
        more |= {
            "converter": _reader(parameter),
            "show_default": parameter.default not in ((), None),
        }
    if in_groups and parameter.name in GROUP_OF:
        more["group"] = GROUP_OF[parameter.name]
    own = [extra for extra in get_args(parameter.annotation)[1:] if isinstance(extra, Parameter)]
    return parameter.replace(annotation=Annotated[plain, *own, Parameter(**more)])


def _reader(parameter: inspect.Parameter) -> Callable[[object, Sequence[Token]], object]:
    """The function that reads the words of an option; cyclopts would round numbers."""

    def read(plain: object, tokens: Sequence[Token]) -> object:
        for token in tokens:
            check_text("it", token.value)
        if {int, float} & {plain, *get_args(plain)}:
            return checked_value("it", tokens[0].value, parameter.annotation)
        return convert(plain, tokens)

    return read


def _app(name: str, help: str) -> App:
    """An application that leaves errors and interrupts to `main`."""
    return App(
        name=name,
        help=help,
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )


GROUPS = {
    "data": "Prepare and inspect crystal tables.",
    "campaign": "Many crystals on many machines, nothing lost.",
    "probe": "Read a property of your own from a frozen model.",
    "library": "Exchange crystals with databases.",
}


def assembled() -> App:
    """All commands; a function such as `data_info` is the command `info` of the group `data`."""
    whole = _app("mattergen-lite", "Design inorganic crystals: sample, judge, train.")
    groups = {name: _app(name, text) for name, text in GROUPS.items()}
    for name in COMMANDS:
        function = getattr(import_module(module_of(name)), name)
        group, _, rest = name.partition("_")
        (groups[group] if rest else whole).command(printed(name, function), name=rest or name)
    for group in groups.values():
        whole.command(group)
    return whole


app = assembled()


def main() -> None:
    """Run the command line; what is wrong is said in one line."""
    os.environ["PYTHONSAFEPATH"] = "1"  # no process started from here imports the current folder
    sys.path[:] = module_path()  # nor does this one: `python -m` would
    _have_streams()
    _print_what_can_be_printed()
    for category in (DeprecationWarning, FutureWarning):  # of libraries, to their developers
        warnings.simplefilter("ignore", category)
    for number in INTERRUPTED:
        signal.signal(number, _stop)
    try:
        check_words(sys.argv[1:])
        with _printed_to_the_end():
            app()
    except (ValueError, OSError, CycloptsError) as error:
        _fail(_one_line(error))
    except (MemoryError, RecursionError) as error:
        _fail(f"{type(error).__name__}: the input is too large or too deep")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED[signal.SIGINT])
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _fail(
            f"unexpected {type(error).__name__}: {_one_line(error)} (a mistake of this program: "
            f"please report it with what {TRACEBACK}=1 prints)"
        )


def _have_streams() -> None:
    """Open what a caller has closed, or the next file would be written to by whoever prints."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


@contextmanager
def _printed_to_the_end() -> Iterator[None]:
    """Raise OSError if output is a full disk or a closed pipe; Python would exit with 120."""
    try:
        yield
    except SystemExit as ended:
        if ended.code == 1:  # which rich says where a pipe is closed
            raise OSError("cannot print: Broken pipe") from None
        raise
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left
            raise


def _print_what_can_be_printed() -> None:
    """Show "?" for what a console cannot show: that of Windows has no "≤"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _stop(number: int, frame: FrameType | None) -> None:
    """End at once, by unwinding, so that folders are released and processes ended."""
    signal.signal(number, signal.SIG_IGN)  # one is enough: the way out is not to be interrupted
    print("interrupted: the same command goes on", file=sys.stderr)
    sys.exit(INTERRUPTED[signal.Signals(number)])


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _one_line(error: Exception) -> str:
    """The message without line breaks and control characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:2000]


if __name__ == "__main__":
    main()
