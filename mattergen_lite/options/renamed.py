"""Names that options and commands had: refused with the name that they have now."""

from collections.abc import Iterable

OPTIONS = {
    "vacancies": "insert",
    "elastic": "bulk_modulus",
    "churn": "eta",
    "temperature": "s_noise",
    "until": "num_candidates",
}
COMMANDS = {"steer": "probe fit"}


def check_names(names: Iterable[str]) -> None:
    """Refuse the old name of an option.

    Raises:
        ValueError: If there is one; says the new one.
    """
    for name in names:
        if name in OPTIONS:
            raise ValueError(f"{name} is now called {OPTIONS[name]}")


def check_words(words: Iterable[str]) -> None:
    """Refuse the old name of a command or an option among the words of a command line.

    Raises:
        ValueError: If there is one; says the new one.
    """
    for place, word in enumerate(words):
        if place == 0 and word in COMMANDS:
            raise ValueError(f"{word} is now called {COMMANDS[word]}")
        flag = word.partition("=")[0]
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        if flag.startswith("--") and name in OPTIONS:
            raise ValueError(f"{flag} is now called --{OPTIONS[name].replace('_', '-')}")
