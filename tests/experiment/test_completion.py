"""The version of the command line, and its completion in shells."""

import contextlib
import io
import subprocess
import sys

import pytest

import jaxnmf
from jaxnmf.experiment.cli import main


@pytest.fixture(scope="session")
def scripts():
    found = {}
    for shell in ("bash", "zsh", "fish"):
        with contextlib.redirect_stdout(io.StringIO()) as text:
            assert main(["completion", shell]) == 0
        found[shell] = text.getvalue()
    return found


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"jaxnmf {jaxnmf.__version__}\n"


def test_python_m_is_the_command():
    command = [sys.executable, "-m", "jaxnmf", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"jaxnmf {jaxnmf.__version__}\n"


COMPLETED = {
    "a command": (["jaxnmf", "fact"], "factorize"),
    "what a list is of": (["jaxnmf", "list", "exp"], "experiments"),
    "an option": (["jaxnmf", "factorize", "x.csv", "--max"], "--max-iter"),
    "a value of an option": (["jaxnmf", "factorize", "--format", "pa"], "parquet"),
    "a solver of an option": (
        ["jaxnmf", "factorize", "--solver", "extra"],
        "extrapolated",
    ),
    "an override": (["jaxnmf", "run", "stop.max"], "stop.max_iter="),
    "a solver of an override": (["jaxnmf", "run", "solver", "=", "anls"], "anls-bpp"),
    "an override in one word": (["jaxnmf", "run", "solver=anls"], "solver=anls-bpp"),
    "after the sign of equality": (["jaxnmf", "run", "loss", "="], "frobenius"),
}


@pytest.mark.parametrize(("words", "expected"), COMPLETED.values(), ids=list(COMPLETED))
def test_bash_completes(scripts, words, expected):
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""{scripts["bash"]}
COMP_WORDS=({quoted})
COMP_CWORD={len(words) - 1}
compopt() {{ :; }}
_jaxnmf
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert expected in done.stdout.split()
    started = words[-1].removeprefix("=")
    assert all(word.startswith(started) for word in done.stdout.split())


def test_zsh_reads_the_same_functions(scripts):
    assert scripts["zsh"].endswith(scripts["bash"])
    assert "bashcompinit" in scripts["zsh"]


def test_fish_has_every_command_and_name(scripts):
    text = scripts["fish"]
    for command in ("run", "factorize", "convert", "plan", "completion"):
        assert f"__fish_seen_subcommand_from {command}" in text
    for solver in jaxnmf.solvers():
        assert f"solver={solver}" in text
    # Quotes are balanced in every line, as fish has no continuation here.
    assert all(line.count("'") % 2 == 0 for line in text.splitlines()[1:])
