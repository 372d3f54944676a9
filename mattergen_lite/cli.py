"""The command line: the functions of `verbs` as commands, bad input as one line and exit code 2."""

import sys
from collections.abc import Callable
from functools import wraps

from cyclopts import App

from mattergen_lite import verbs


def printed(verb: Callable[..., object]) -> Callable[..., None]:
    """The verb as a command: same arguments, its outcome printed instead of returned.

    Dropping the return type matters: cyclopts evaluates annotations, and importing the classes that
    verbs return would cost `--help` the seconds that torch takes to load.
    """

    @wraps(verb)
    def command(*args: object, **kwargs: object) -> None:
        outcome = verb(*args, **kwargs)
        print(outcome.text() if hasattr(outcome, "text") else outcome)

    command.__annotations__ = {k: v for k, v in verb.__annotations__.items() if k != "return"}
    return command


app = App(name="mattergen-lite", help="Design inorganic crystals: sample, judge, train.")
data = App(name="data", help="Prepare and inspect crystal tables.")
for verb in (
    verbs.generate,
    verbs.score,
    verbs.benchmark,
    verbs.discover,
    verbs.train,
    verbs.finetune,
    verbs.steer,
):
    app.command(printed(verb))
data.command(printed(verbs.data_prepare), name="prepare")
data.command(printed(verbs.data_info), name="info")
app.command(data)
campaign = App(name="campaign", help="Many crystals on many machines, nothing lost.")
campaign.command(printed(verbs.campaign_run), name="run")
campaign.command(printed(verbs.campaign_status), name="status")
campaign.command(printed(verbs.campaign_report), name="report")
app.command(campaign)
library = App(name="library", help="Exchange crystals with databases.")
library.command(printed(verbs.library_export), name="export")
library.command(printed(verbs.library_import), name="import")
app.command(library)


def main() -> None:
    """Run the command line; what is wrong with the input is said in one line."""
    try:
        app()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
