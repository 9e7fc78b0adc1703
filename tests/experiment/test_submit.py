"""Workers submitted to SLURM: the script, and what sbatch answers."""

import os
import shlex
import subprocess
import sys

import pytest

from jaxnmf.experiment.cli import main
from jaxnmf.experiment.store import queue


@pytest.fixture
def folder(tmp_path):
    """A study of ten jobs, in a folder that a shell would split."""
    path = tmp_path / "a study"
    for i in range(10):
        queue.add(path, queue.Job({"seed": i}, str(tmp_path), "jaxnmf run"))
    return path


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Install an sbatch with this text."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install(text):
        path = tmp_path / "bin" / "sbatch"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    return install


def submitted(folder, *options):
    return main(["submit", str(folder), "--slurm", *options])


def script(folder):
    return (folder / "slurm" / "array.sh").read_text().splitlines()


def test_the_script_has_the_options_and_a_worker(folder, capsys, monkeypatch):
    given = "--array 3 --time 2:00:00 --partition gpu --memory 8G --cpus 4 --gpus 1"
    more = ["--sbatch=--account=me", "--sbatch", "--comment=two words"]
    assert submitted(folder, "--dry-run", *given.split(), *more) == 0
    lines = script(folder)
    assert lines[0] == "#!/bin/bash"
    assert lines[1:-2] == [
        '#SBATCH "--job-name=jaxnmf-a study"',
        "#SBATCH --array=1-3",
        f'#SBATCH "--output={folder}/slurm/%A_%a.txt"',
        "#SBATCH --time=2:00:00",
        "#SBATCH --partition=gpu",
        "#SBATCH --mem=8G",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --gpus-per-task=1",
        "#SBATCH --account=me",
        '#SBATCH "--comment=two words"',
    ]
    assert shlex.split(lines[-2])[:2] == ["cd", os.getcwd()]
    assert shlex.split(lines[-1])[1:] == [
        *(sys.executable, "-m", "jaxnmf.experiment.cli", "work", str(folder))
    ]
    printed = capsys.readouterr().out
    assert "\n".join(lines) in printed
    assert "not submitted" in printed
    assert subprocess.run(["bash", "-n", folder / "slurm/array.sh"]).returncode == 0


def test_it_is_submitted_and_the_answer_printed(folder, sbatch, capsys):
    sbatch('test -f "$1" && echo Submitted batch job 7')
    assert submitted(folder) == 0
    assert capsys.readouterr().out == "Submitted batch job 7\n"
    assert "#SBATCH --array=1-8" in script(folder)  # for ten jobs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "sbatch is not installed on this machine; the script is"),
        ("echo invalid partition >&2; exit 1", "array.sh': invalid partition"),
        ("exit 3", "exit code 3"),
    ],
)
def test_without_an_answer_the_script_is_named(text, said, folder, sbatch, capsys):
    if text is not None:
        sbatch(text)
    assert submitted(folder) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert said in printed
    assert str(folder / "slurm" / "array.sh") in printed


@pytest.mark.parametrize("option", ["--account=me\nrm -r /", "account=me"])
def test_what_is_no_option_of_sbatch_is_refused(option, folder, capsys):
    assert submitted(folder, f"--sbatch={option}") == 2
    assert f"--sbatch={option!r} is not an option" in capsys.readouterr().err
    assert not (folder / "slurm").exists()


@pytest.mark.parametrize("missing", [["a"], ["a", "--slurm", "--array=0"]])
def test_a_mistyped_command_is_answered_at_once(missing, capsys):
    with pytest.raises(SystemExit):
        main(["submit", *missing])
    assert "error: " in capsys.readouterr().err
