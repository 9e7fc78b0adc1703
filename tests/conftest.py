"""What every test runs under; set before jax is imported.

Four forced CPU devices (for tests of sharding), types and shapes checked by beartype,
strict dtype promotion, and the example plugin installed, so that the contract covers
a third party's solver too.
"""

import functools
import gc
import itertools
import os
import sys
import tempfile
import tomllib
from pathlib import Path

from compiler_options import AS_USERS_RUN, QUICK

TESTS = Path(__file__).parent

flags = os.environ.get("XLA_FLAGS", "")
wanted = {"xla_force_host_platform_device_count": 4}
# The contract compares quick programs with those that users run;
# `XLA_FLAGS=--xla_backend_optimization_level=3 pytest …` runs all tests on the latter.
if "xla_backend_optimization_level" not in flags:
    wanted |= QUICK
for name, value in wanted.items():
    if name not in flags:  # workers have them from their parent
        flags += f" --{name}={str(value).lower()}"
os.environ["XLA_FLAGS"] = flags.strip()

# Processes of tests read compiled modules, also where Python is told to leave none in
# the tree: to compile them takes a third of a second each time.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    _modules = tempfile.TemporaryDirectory(prefix="jaxnmf-modules-")
    os.environ.setdefault("PYTHONPYCACHEPREFIX", _modules.name)

from jaxtyping import install_import_hook  # noqa: E402

# Where arrays are declared with their shapes; types alone are pyright's. Not in data,
# whose operands are called most while programs are traced: a sixth of the suite's time.
SHAPED = "estimators fixed_point fold_in init kernels metrics objective outcome plots"
SHAPED += " ratings result selection solvers topics uncertainty"
install_import_hook([f"jaxnmf.{name}" for name in SHAPED.split()], "typecheck.check")

import absl.logging  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from jaxnmf.run import clock, programs  # noqa: E402

# Hydra, when it configures logging, closes every handler there is. optax's absl has one
# on the stream that was standard error at its import, which is pytest's own by now.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

jax.config.update("jax_numpy_dtype_promotion", "strict")


def install_plugin(target: Path, folder: str = "plugin") -> None:
    """Leave in ``target`` what an installer leaves of a folder of the tests.

    Its metadata is written from its pyproject.toml without pip: a build needs a
    backend, and may need the network.
    """
    source = TESTS / folder
    with (source / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    package = project["name"].replace("-", "_")
    info = target / f"{package}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\n"
        f"Version: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {to}" for name, to in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (target / package).symlink_to(source / package, target_is_directory=True)


# Kept by its name to the end of the process, when it is removed.
_plugin_site = tempfile.TemporaryDirectory(prefix="jaxnmf-plugin-")
install_plugin(Path(_plugin_site.name))
# Before collection: the contract is parametrised by what the registry lists.
sys.path.insert(0, _plugin_site.name)


@pytest.fixture(scope="session")
def plugin_site() -> Path:
    """The folder the example plugin is installed in, for a subprocess's PYTHONPATH."""
    return Path(_plugin_site.name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data sets; skips where there is none."""
    folder = os.environ.get("JAXNMF_DATA", "")
    if not (Path(folder) / "manifest.json").is_file() or not folder:
        pytest.skip("JAXNMF_DATA names no folder of data sets with a manifest.json")
    return Path(folder)


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs as users run them, for tests whose iterations take longer than to
    compile them."""
    program = functools.partial(programs.compiled, **AS_USERS_RUN)
    monkeypatch.setattr(clock, "compiled", program)
    monkeypatch.setattr(clock, "compiled_quickly", program)


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers for every test, whatever ran before it."""
    return np.random.default_rng(20240607)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Thousands of programs are compiled here, and not all by `programs.compiled`."""
    if next(_finished) % 20 == 0:  # counting the mappings takes milliseconds
        programs.make_room()


def pytest_collection_finish() -> None:
    """What is alive by now stays: not to go through it a hundred times is a tenth of
    the suite's time."""
    gc.collect()
    gc.freeze()


_finished = itertools.count(1)
