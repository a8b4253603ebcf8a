"""How a command ends that still waits for input: interrupted, or with nobody left to read what it prints."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny_model import write_model

Process = subprocess.Popen[bytes]


@pytest.fixture
def translating(tmp_path: Path) -> Iterator[Process]:
    """`kotya translate` that has answered a line and waits for the next one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kotya", "translate", str(write_model(tmp_path / "model")), "--scores"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        ask(process)
        assert process.stdout is not None
        assert process.stdout.readline().count(b"\t") == 2
        yield process
        process.kill()


def ask(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"kot\n")
    process.stdin.flush()


def last_words(process: Process) -> bytes:
    process.wait(60)
    assert process.stderr is not None
    return process.stderr.read()


def test_ctrl_c_is_130_and_one_line(translating: Process) -> None:
    translating.send_signal(signal.SIGINT)
    assert last_words(translating) == b"kotya: interrupted\n"
    assert translating.returncode == 130


def test_a_reader_that_leaves_before_the_end_of_a_trace(tmp_path: Path) -> None:
    """The trace is not there, nor half of it."""
    (tmp_path / "in").write_text("kot\n" * 100)
    command = [sys.executable, "-m", "kotya", "translate", str(write_model(tmp_path / "model"))]
    line = f"{' '.join(command)} {tmp_path}/in --trace {tmp_path}/trace | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[1] == "141"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "model"]


def test_a_reader_that_leaves_is_141_and_no_word(translating: Process) -> None:
    assert translating.stdout is not None
    translating.stdout.close()
    ask(translating)
    assert last_words(translating) == b""
    assert translating.returncode == 141
