"""The live table of a running study."""

import io

from rich.console import Console

from jaxnmf.experiment.store import outcomes
from jaxnmf.experiment.store.unfinished import Unfinished
from jaxnmf.experiment.watch import FINISHED_ROWS, study_table


def printed(folder):
    console = Console(file=io.StringIO(), width=110)
    console.print(study_table(folder, "call"))
    return console.file.getvalue()


def names(solver):
    return {"dataset": "digits", "loss": "frobenius", "solver": solver}


def test_the_table_has_finished_jobs_and_those_in_progress(tmp_path):
    assert "started" in printed(tmp_path)
    outcomes.add(
        tmp_path, "call", "run", names=names("hals"), runs=4, error=0.25, seconds=2.0
    )
    outcomes.add(tmp_path, "call", "done before", names=names("mu"), runs=4, error=0.5)
    outcomes.add(tmp_path, "call", "skipped", "no", names=names("kl-cd"))
    outcomes.add(tmp_path, "call", "warning", "of the hals job")
    outcomes.add(tmp_path, "another", "failed", names=names("optax"))
    group = {"dataset": "digits", "loss": "frobenius", "solver": "pgd"}
    config = {part: {"name": name} for part, name in group.items()}
    Unfinished(tmp_path, "a").begin(config, {"runs": 3, "kind": "runs"})
    text = printed(tmp_path)
    assert f"{tmp_path.name}: 1 run, 1 done before, 1 skipped " in text
    table = text.split("─")[-1]  # below the header
    rows = [row.split() for row in table.splitlines() if row.strip()]
    assert rows[0] == ["digits", "frobenius", "hals", "4", "0.25", "2.0", "run"]
    assert rows[1][-2:] == ["done", "before"]
    assert rows[2] == ["digits", "frobenius", "kl-cd", "skipped"]
    assert rows[3][2:6] == ["pgd", "0", "of", "3"]
    assert rows[3][-2:] == ["in", "progress"]
    assert len(rows) == 4


def test_the_table_shows_the_latest_finished_jobs(tmp_path):
    for i in range(FINISHED_ROWS + 2):
        outcomes.add(tmp_path, "call", "run", names=names(f"solver{i:02}"))
    text = printed(tmp_path)
    assert "solver01" not in text
    assert "solver02" in text
    assert f"{FINISHED_ROWS + 2} run" in text
