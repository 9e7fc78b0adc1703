"""What importing the package costs: no heavy library, nothing compiled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnmf

HEAVY = {
    "pandas",
    "sklearn",
    "matplotlib",
    "hydra",
    "omegaconf",
    "pyarrow",
    "rich",
    "jinja2",
    "jax.experimental.sparse",
}

# What one factorisation does without: each is loaded when it is first used.
LATER = {"jaxtyping", "jaxnmf.datasets", "jaxnmf.selection", "jaxnmf.sweeps"}

SCRIPT = """
import json, sys
import jax
import jax._src.compiler as compiler

compilations = []
compile_or_get_cached = compiler.compile_or_get_cached

def watched(*args, **kwargs):
    compilations.append(1)
    return compile_or_get_cached(*args, **kwargs)

compiler.compile_or_get_cached = watched
x64 = jax.config.jax_enable_x64
import jaxnmf

at_once = list(sys.modules)
jaxnmf.solvers(), jaxnmf.losses(), jaxnmf.datasets(), jaxnmf.plots.components
reported = {
    "at_once": at_once,
    "modules": list(sys.modules),
    "compilations": len(compilations),
    "backends": len(jax._src.xla_bridge._backends),
    "x64": [x64, jax.config.jax_enable_x64],
}
# That the watch sees a compilation, and what is left for when it is needed.
import numpy as np
import scipy.sparse
jaxnmf.factorize(scipy.sparse.csr_array(np.ones((3, 2))), 1, max_iter=1)
reported["later"] = [len(compilations) > 0, "jax.experimental.sparse" in sys.modules]
print(json.dumps(reported))
"""


@pytest.fixture(scope="session")
def reported():
    command = [sys.executable, "-W", "error::DeprecationWarning:jaxnmf", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_heavy_library_is_imported(reported):
    assert HEAVY & set(reported["modules"]) == set()


def test_what_one_factorisation_does_without_is_not_imported(reported):
    assert LATER & set(reported["at_once"]) == set()


def test_nothing_is_compiled_and_no_device_is_opened(reported):
    assert reported["compilations"] == 0
    assert reported["backends"] == 0
    # The same watch sees the first compilation of a run.
    assert reported["later"] == [True, True]


def test_the_users_settings_are_left_alone(reported):
    assert reported["x64"] == [False, False]


def test_lists_are_functions_and_modules():
    solvers: object = jaxnmf.solvers
    assert {"hals", "mu", "pgd"} <= set(jaxnmf.solvers())  # pyright: ignore
    assert {"frobenius", "beta"} <= set(jaxnmf.losses())  # pyright: ignore
    assert {"digits", "file"} <= set(jaxnmf.datasets())  # pyright: ignore
    assert type(solvers).__mro__[1] is type(sys)
    assert jaxnmf.solvers.HALS().inner == 0
    assert jaxnmf.losses.Frobenius().beta == 2
    assert jaxnmf.datasets.load("synthetic", m=4, n=3, rank=1).V.shape == (4, 3)


def test_the_version_is_the_one_in_its_file():
    text = (Path(jaxnmf.__file__).parent / "_version.py").read_text(encoding="utf-8")
    assert f'"{jaxnmf.__version__}"' in text
