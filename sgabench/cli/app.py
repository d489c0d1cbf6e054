"""The program: commands are registered on `app`, and `main` turns their exceptions into exit codes."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Annotated, NoReturn

import typer

from sgabench.errors import InputError
from sgabench.system.collecting import leave_at_once
from sgabench.system.interruption import ignore_ctrl_c
from sgabench.system.threads import one_thread_for_blas, wait_politely

app = typer.Typer(
    name="sgabench",
    help="Which way of training leaves a network that survives pruning?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"sgabench {importlib.metadata.version('sgabench')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


# Of click, or of Typer's copy of it.
_WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit; bad input is one line and exit code 2."""
    wait_politely()
    one_thread_for_blas()
    leave_at_once()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character still gets the rest
    try:
        code = app(arguments, standalone_mode=False)
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
    except InputError as error:
        stop(f"error: {error}", 2)
    except KeyboardInterrupt:  # before a training begins, or a second one on the way out
        ignore_ctrl_c()
        stop("stopped", 130)
    except BrokenPipeError:
        sys.stdout = None  # its reader is gone
        sys.exit(0)
    except SystemExit as left:  # click and rich leave with code 1 when a reader is gone
        sys.exit(0 if isinstance(left.__context__, BrokenPipeError) else left.code)
    except OSError as error:
        stop(f"error: cannot write the output: {error.strerror or error}", 2)
    except _WrongUsage as wrong:
        message = _in_one_line(wrong.format_message())  # type: ignore[attr-defined]
        if type(wrong).__name__ == "NoArgsIsHelpError":
            stop(wrong.format_message(), 2)  # type: ignore[attr-defined]
        command = getattr(getattr(wrong, "ctx", None), "command_path", "sgabench")
        stop(f"error: {message}; see {command} --help", 2)
    sys.exit(code or 0)


def _in_one_line(message: str) -> str:
    """Typer's message about a wrong command line, without decoration."""
    message = " ".join(message.replace(": Value error, ", ": ").split()).rstrip(".")
    return message[:1].lower() + message[1:]


def stop(message: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError, AttributeError):
        typer.echo(message, err=True)
    sys.exit(code)
