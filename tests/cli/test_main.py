"""The command as a whole: help, start-up, errors as one line."""

import subprocess
import sys

import pytest

from kotya.cli.main import COMMANDS, run


def test_help_imports_no_torch() -> None:
    code = "import sys; from kotya.cli.main import run; run(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(name in done.stdout for name in COMMANDS)


def test_loading_a_model_imports_no_compiler() -> None:
    """torch._dynamo would take a second and 90 MB; a careless decorator is enough to import it."""
    code = "import sys, kotya.inference.loading; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"kotya {name}" in text
    assert "Example" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tranlsate"], "the nearest is 'translate'"),
        (["train"], "what to train on?"),
        (["translate"], "model"),
        (["train", "--bogus"], "--bogus"),
        (["vocabulary", "lern"], "lern"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert said in output.err.lower()


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    command = f"{sys.executable} -m kotya show --help | true; {sys.executable} -m kotya --help | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
