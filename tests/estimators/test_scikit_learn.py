"""scikit-learn's own tests of NMF, with its three names replaced by jaxnmf's.

In the suite every test function with a sixth of its parameters; all of them with
``JAXNMF_EVERY_CASE=1`` in the environment.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = "import NMF, MiniBatchNMF, non_negative_factorization\n"
# Tests that cannot hold, with the reason; listed in the documentation too.
LEFT_OUT: dict[str, str] = {}
EVERY_CASE = bool(os.environ.get("JAXNMF_EVERY_CASE"))
SOME = """
from collections import Counter

def pytest_collection_modifyitems(items):
    seen, kept = Counter(), []
    for item in items:
        if seen[item.originalname] % 6 == 0:
            kept.append(item)
        seen[item.originalname] += 1
    items[:] = kept
"""


@pytest.mark.slow
def test_scikit_learns_own_tests_pass(tmp_path):
    found = importlib.util.find_spec("sklearn.decomposition.tests.test_nmf")
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).read_text()
    theirs = f"from sklearn.decomposition {NAMES}"
    assert source.count(theirs) == 1
    test = tmp_path / "test_theirs.py"
    test.write_text(source.replace(theirs, f"from jaxnmf {NAMES}"))
    if not EVERY_CASE:
        (tmp_path / "conftest.py").write_text(SOME)
    without = [f"--deselect=test_theirs.py::{name}" for name in LEFT_OUT]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "-W", "ignore", *without, test.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) >= (250 if EVERY_CASE else 40)
    assert len(LEFT_OUT) <= 5
