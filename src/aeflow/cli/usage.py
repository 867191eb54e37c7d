"""Wrong use, as typer finds it, on one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.exceptions import TyperException

from aeflow.errors import SettingsError, in_our_words

EXTRA = "unexpected extra argument"  # in typer's words
MEANT = {"train": "abnormal images go behind --abnormal, and unlabelled ones behind --unlabelled"}  # by what is extra


@contextmanager
def on_one_line() -> Iterator[None]:
    """Raise SettingsError for what typer says of wrong use; where it shows the help instead, its error passes."""
    try:
        yield
    except TyperException as error:
        found = error.format_message().strip().removesuffix(".")
        if not found or "\n" in found:
            raise
        command = command_of(getattr(error, "ctx", None))
        remedy = f"see {command} --help"
        where, _, demanded = found.partition(": ")
        if (words := in_our_words(demanded)) != demanded:
            found, remedy = where, f"{words}; {remedy}"
        if EXTRA in found and (meant := MEANT.get(command.removeprefix("aeflow "))):
            remedy = f"{meant}; {remedy}"
        raise SettingsError(command, found[:1].lower() + found[1:], remedy) from error


def command_of(context: Any) -> str:
    """Return the words that call a command, as its context names them, from the program's name on."""
    words = []
    while context is not None and context.parent is not None:
        words.append(context.info_name)
        context = context.parent
    return " ".join(["aeflow", *reversed(words)])
