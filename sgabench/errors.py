"""The exception for problems that the user can mend, and helpers for its messages."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_MESSAGE = 3000
MAX_SUGGESTIONS = 2000


class InputError(ValueError):
    """Bad input: one line that says where, what, and what would be right.

    The command line prints the message without a traceback and exits with code 2. Whatever it
    quotes, the message stays one line of printable characters, and of a length that can be read.
    """

    def __init__(self, message: str) -> None:
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE * 2 // 3]} ... {message[-MAX_MESSAGE // 3 :]}"
        line = " ".join(message.split())
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))


def describe(error: BaseException) -> str:
    """Class and first line of an exception, e.g. ``ValueError: lr must be positive``."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # a third party's class may fail to describe itself
        lines = []
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def foreign(before: str, after: str = "") -> Iterator[None]:
    """Around code of others (a plugin, a library's constructor or decoder), which may raise anything on bad input.

    Args:
        before, after: of the message, around the description of the exception.

    Raises:
        InputError: for any exception, which becomes its cause. An `InputError` passes unchanged.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # kept as the cause, with its traceback
        raise InputError(f"{before}{describe(error)}{after}") from error


def similar(name: str, valid: Iterable[str]) -> str:
    """A clause that names what was probably meant: ``"; did you mean 'adam'?"``; empty if nothing is similar."""
    lowered = {option.lower(): option for option in sorted(itertools.islice(valid, MAX_SUGGESTIONS))}
    close = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)
    return "; did you mean " + " or ".join(repr(lowered[match]) for match in close) + "?" if close else ""


def suggestion(name: str, valid: Iterable[str]) -> str:
    """A clause that names what was probably meant, else everything that is valid.

    Returns:
        ``"; did you mean 'adam'?"`` or ``"; valid: adam, sgd"`` (empty if nothing is valid).
    """
    options = sorted(itertools.islice(valid, MAX_SUGGESTIONS))
    if near := similar(name, options):
        return near
    if not options:
        return ""
    shown = ", ".join(options[:20])
    return f"; valid: {shown}" + (", ..." if len(options) > 20 else "")


def first_problem(error: ValidationError, valid: Iterable[str] = ()) -> tuple[tuple[Any, ...], str]:
    """Turn pydantic's first complaint into a path and one sentence.

    Args:
        error: what pydantic raised.
        valid: names that an unknown key is compared with.

    Returns:
        The path of the value inside the validated object, and the sentence.
    """
    problem = error.errors(include_url=False)[0]
    path = problem["loc"]
    kind = problem["type"]
    if kind == "extra_forbidden":
        return path, "unknown key" + suggestion(str(path[-1]), valid)
    if kind == "missing":
        return path, "is required"
    if kind in {"tuple_type", "list_type"}:
        return path, f"must be a list, got {shorten(problem['input'])}"
    if kind in {"dict_type", "model_type"}:
        return path, f"must be a table, got {shorten(problem['input'])}"
    if kind == "too_short" and not problem["input"]:
        return path, "the list is empty"
    if kind == "too_long":
        return path, f"has {problem['ctx']['actual_length']} items; at most {problem['ctx']['max_length']} are possible"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind in {"value_error", "assertion_error"}:
        return path, message
    return path, f"{message}, got {shorten(problem['input'])}"


def dotted(path: Iterable[Any]) -> str:
    """The place of a value in a suite, as in ``gate.rule`` or ``ratios 2``: lists are counted from 1."""
    text = ""
    for part in path:
        text += f" {part + 1}" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text.strip()


def counted(number: int, singular: str, plural: str = "") -> str:
    """A number of things: ``1 training``, ``1,010 trainings``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def shorten(value: Any, limit: int = 60) -> str:
    """``repr`` of a value, cut to one short line."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # Python does not print numbers with thousands of digits
        return f"an immense {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."
