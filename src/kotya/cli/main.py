"""The `kotya` command: a table of commands, each imported only when it is called, and one line for every error.

Exit codes: 0 done, 1 a fault (disk full, NaN in the loss), 2 the person's mistake, 130 interrupted,
141 the reader of the output left.
"""

import difflib
import errno
import importlib
import inspect
import logging
import os
import re
import sys
import threading
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import kotya
from kotya.errors import KotyaError

# What `kotya --help` shows, so that listing the commands imports none of them. The module of `import` is `import_`.
COMMANDS = {
    "demo": "Train a small Russian-English translator in about a minute and see what it does.",
    "train": "Train a model as a recipe says, on two text files, or on the file of a task.",
    "translate": "Translate lines.",
    "predict": "Labels, relevance, entities, or fills for [MASK].",
    "generate": "Go on with a text.",
    "score": "The log-probability of given translations, a line each.",
    "align": "Word alignments of given translations.",
    "evaluate": "The metrics of a model on a test set.",
    "vocabulary": "Byte-pair encoding: learn it, apply it, watch it merge.",
    "show": "Pictures: positions, heads, beam trees, what length does, what a BERT reads, who attends to whom.",
    "average": "Average checkpoints into one model.",
    "merge": "Make adapters part of their base.",
    "import": "Make a model folder from another library's model.",
    "export": "Write a model folder in the form of another library.",
    "benchmark": "How fast a model is on this machine.",
}
COMPUTING = {
    "demo",
    "train",
    "translate",
    "predict",
    "generate",
    "score",
    "align",
    "evaluate",
    "show",
    "benchmark",
}

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Commands(TyperGroup):
    """The commands of the table, imported on first use."""

    def list_commands(self, context: Any) -> list[str]:
        """All of them, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, context: Any, name: str) -> Any:
        """Import the command that is called; None where there is no such command."""
        return load_command(name) if name in COMMANDS else None

    def format_commands(self, context: Any, formatter: Any) -> None:
        """The table as it stands, without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, context: Any, arguments: list[str]) -> Any:
        """Find the command, or say which is the nearest."""
        name = arguments[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise KotyaError(f"there is no command {name!r}; {nearest(name, list(COMMANDS))}")
        return super().resolve_command(context, arguments)


def nearest(name: str, names: list[str]) -> str:
    """Which of the names was meant, or all of them."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"the nearest is {close[0]!r}" if close else f"there are {', '.join(names)}"


def load_command(name: str) -> Any:
    """The command of that name: the module's `app` where it has commands of its own, else its function."""
    module_name = f"{name}_" if name == "import" else name
    module = importlib.import_module(f"kotya.cli.{module_name}")
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer()
        group.command(name)(getattr(module, module_name))
    group._add_completion = False
    group.rich_markup_mode = None
    command = typer.main.get_command(group)
    for one in [command, *getattr(command, "commands", {}).values()]:
        one.help = keep_examples(one.help or "")
    return command


def keep_examples(text: str) -> str:
    """Mark the paragraphs that hold examples, so that help does not re-wrap their lines."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(
        f"\b\n{paragraph}" if re.search(r"^(\s+\S|kotya |Examples?:)", paragraph, re.MULTILINE) else paragraph
        for paragraph in paragraphs
        if paragraph.strip() != "\b"
    ).replace("\b\n\b\n", "\b\n")


@app.callback(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
def kotya_command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the versions and stop.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on standard error what is chosen, such as kernels.")
    ] = False,
) -> None:
    """Train, inspect and use sequence models: one recipe file in, one model folder out.

    Start with:

        kotya demo                                             a translator from nothing, in about a minute
        kotya train --source train.ru --target train.en        your own two files
        kotya translate runs/ru-en < in.ru > out.en            and what comes of them
    """
    if verbose:
        logging.basicConfig(format="%(message)s", force=True)
        logging.getLogger("kotya").setLevel(logging.INFO)
    if version:
        python = ".".join(map(str, sys.version_info[:3]))
        print(f"kotya {kotya.__version__} (Python {python}, torch {metadata.version('torch')})")
    elif context.invoked_subcommand is None:
        print(context.get_help())
    elif context.invoked_subcommand in COMPUTING:
        prepare_to_compute()


def prepare_to_compute() -> None:
    """Settings of this process that only commands which compute want."""
    from kotya.cli.allocator import tune_allocator
    from kotya.cli.threads import spin_briefly

    tune_allocator()
    spin_briefly()


def main() -> NoReturn:
    """The console script: run the command and turn whatever happens into an exit code and at most one line."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="strict" if stream is not sys.stderr else "replace")
    leave(run(sys.argv[1:]))


def leave(code: int) -> NoReturn:
    """End the process.

    A thread may still wait for a line of standard input. It holds the stream's lock, and the interpreter's own way
    out would want that lock and abort; so what was written is flushed, and the thread is left where it is.
    """
    sys.stderr.flush()
    if any(thread.daemon for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code, having written the error, if any, as one line on stderr."""
    try:
        return invoke(arguments)
    except BrokenPipeError:
        discard_output()  # whoever read it left (`| head`)
        return 141
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except Exception as error:
        if os.environ.get("KOTYA_TRACEBACK"):
            raise
        code, message = explain(error)
    flush_output()  # what the command had done before comes before what went wrong
    say(message)
    return code


def invoke(arguments: list[str]) -> int:
    """Run the command. (Typer's own `main` would make 1 of a reader that left, and be silent when interrupted.)"""
    command = typer.main.get_command(app)
    command.help = keep_examples(command.help or "")
    code = 0
    try:
        with command.make_context("kotya", arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        code = done.exit_code
    sys.stdout.flush()
    return code


def flush_output() -> None:
    """Write what is still held back; where that fails, an error is about to be said that came first."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()


def discard_output() -> None:
    """What is still held back goes nowhere, so that Python does not stumble over it on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str) -> None:
    """One line on stderr, whatever the message is made of."""
    print("kotya:", "; ".join(line.strip() for line in message.splitlines() if line.strip()), file=sys.stderr)


def explain(error: Exception) -> tuple[int, str]:
    """The exit code and the line for an error."""
    if isinstance(error, KotyaError):
        return error.exit_code, str(error)
    if isinstance(error, typer.TyperException):
        return 2, usage_message(error)
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError | PermissionError):
        return 2, f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        full = "; nothing half-written was left" if error.errno == errno.ENOSPC else ""
        return 1, f"{where}{(error.strerror or str(error)).lower()}{full}"
    if isinstance(error, UnicodeDecodeError):
        return 2, f"the input is not valid UTF-8 (byte {error.object[error.start]:#04x} at {error.start})"
    if (
        isinstance(error, MemoryError)
        or "can't allocate memory" in str(error)
        or "out of memory" in str(error)
    ):
        return (
            1,
            "out of memory: make batches (`training.tokens` or `training.examples`) or the model smaller",
        )
    where = error_place(error)
    return (
        1,
        f"unexpected {type(error).__name__}{where}: {error} (KOTYA_TRACEBACK=1 shows the whole way to it)",
    )


def usage_message(error: typer.TyperException) -> str:
    """What is wrong with the command line, and where its help is."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "kotya"
    return f"{message[:1].lower()}{message[1:]} (see {path} --help)"


def error_place(error: Exception) -> str:
    """The deepest line of kotya's own that the error came through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if f"{os.sep}kotya{os.sep}" in name:
            place = f" at {os.path.basename(name)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


if __name__ == "__main__":
    main()
