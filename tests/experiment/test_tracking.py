"""Runs logged to MLflow; by a mock of its client."""

import sys
import types
from collections import namedtuple

import numpy as np
import pytest

from jaxnmf.experiment.cli import main
from jaxnmf.experiment.store import stored

QUICK = ["dataset=synthetic", "dataset.m=30", "dataset.n=20", "dataset.rank=3"]
QUICK += ["ranks=[2]", "seeds=[0,1]", "stop.max_iter=20", "solver=hals"]


@pytest.fixture
def logged(monkeypatch):
    """What a client logs, by run."""
    runs = {}

    class MlflowClient:
        def __init__(self, tracking_uri):
            self.uri = tracking_uri

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            return name

        def create_run(self, experiment, run_name, tags):
            runs[run_name] = {"experiment": experiment, "metrics": [], "params": []}
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_name))

        def log_batch(self, run, metrics=(), params=(), tags=()):
            assert len(metrics) <= 1000
            runs[run]["metrics"] += metrics
            runs[run]["params"] += params

        def set_terminated(self, run):
            runs[run]["ended"] = True

    mlflow = types.ModuleType("mlflow")
    mlflow.MlflowClient = MlflowClient
    entities = types.ModuleType("mlflow.entities")
    entities.Metric = namedtuple("Metric", "key value timestamp step")
    entities.Param = namedtuple("Param", "key value")
    entities.RunTag = namedtuple("RunTag", "key value")
    exceptions = types.ModuleType("mlflow.exceptions")
    exceptions.MlflowException = type("MlflowException", (Exception,), {})
    for module in (mlflow, entities, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return runs


@pytest.mark.slow
def test_every_run_is_logged_once(logged, tmp_path):
    arguments = ["run", *QUICK, "mlflow=sqlite:///x.db", f"folder={tmp_path}"]
    assert main(arguments) == 0
    (job,) = stored.read_jobs(tmp_path)
    assert set(logged) == {f"{job.key}/r2-s0", f"{job.key}/r2-s1"}
    row = job.summary.set_index("run").loc["r2-s1"]
    run = logged[f"{job.key}/r2-s1"]
    assert run["ended"]
    assert ("solver.name", "hals") in run["params"]
    metrics = {m.key: m.value for m in run["metrics"] if not m.key.startswith("trace")}
    assert metrics["error"] == row["error"]
    trace = [(m.step, m.value) for m in run["metrics"] if m.key == "trace_error"]
    records = job.trace[job.trace["run"] == "r2-s1"]
    np.testing.assert_array_equal(trace, records[["iteration", "error"]])
    logged.clear()
    assert main(arguments) == 0
    assert not logged  # a complete job is not logged again


def test_a_missing_mlflow_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(["run", *QUICK, "mlflow=sqlite:///x.db", f"folder={tmp_path}"]) == 2
    assert "pip install 'jaxnmf[mlflow]'" in capsys.readouterr().err
    assert stored.read_jobs(tmp_path) == []  # refused before any run
