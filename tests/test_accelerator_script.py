"""The measurements for a machine with an accelerator, tried in small on a CPU."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "accelerator" / "measure.sh"


@pytest.mark.slow
def test_it_writes_a_table_and_a_page(tmp_path):
    run = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path), "--small", "--parts", "forms", "bits"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert {row["part"] for row in rows} == {"forms", "bits"}
    assert not [row for row in rows if row["quantity"] == "failed"]
    same = [row["value"] for row in rows if row["quantity"] == "same bits"]
    assert same == ["True"] * 9
    page = (tmp_path / "README.md").read_text()
    assert "row by row" in page
    assert "extrapolated" in page
