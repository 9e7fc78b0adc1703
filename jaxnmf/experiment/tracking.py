"""Logs jobs to MLflow (the extra ``mlflow``).

A run of MLflow is a run of a job: its parameters are the config, its metrics the
numbers of the summary, and the objective and error of every record.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxnmf.experiment.store.layout import writing
from jaxnmf.experiment.store.stored import StoredJob


def require(address: str) -> tuple[Any, Any, Any]:
    """MLflow, its entities and its exceptions; a ValueError where it is missing."""
    try:
        names = ("mlflow", "mlflow.entities", "mlflow.exceptions")
        mlflow, entities, exceptions = map(importlib.import_module, names)
    except ImportError:
        raise ValueError(
            f"mlflow={address!r} needs MLflow: pip install 'jaxnmf[mlflow]'"
        ) from None
    return mlflow, entities, exceptions


def log_job(job: StoredJob, address: str) -> None:
    """Log every run of a job, unless a file beside it records that this was done.

    Args:
      job: a complete job.
      address: MLflow's tracking URI, such as ``sqlite:///mlflow.db`` or a server's.

    Raises:
      ValueError: if MLflow is not installed or cannot be reached.
    """
    record = job.path.with_name(f".{job.key}.mlflow")
    done = json.dumps([address, job.manifest.get("sha256")])
    if record.is_file() and done in record.read_text().splitlines():
        return
    mlflow, entities, exceptions = require(address)
    Metric, Param, RunTag = entities.Metric, entities.Param, entities.RunTag
    try:
        client = mlflow.MlflowClient(tracking_uri=address)
        study = str(job.config.get("name", "run"))
        experiment = _experiment(client, exceptions, study)
        params = [Param(key, str(value)[:500]) for key, value in flat(job.config)]
        for row in job.summary.to_dict("records"):
            name = str(row["run"])
            tags = {"jaxnmf.job": job.key, "jaxnmf.run": name}
            run = client.create_run(
                experiment, run_name=f"{job.key}/{name}", tags=tags
            ).info.run_id
            texts = {k: v for k, v in row.items() if isinstance(v, str)}
            client.log_batch(
                run,
                metrics=[Metric(*each, 0, 0) for each in numbers(row)],
                params=params,
                tags=[RunTag(f"jaxnmf.{k}", v) for k, v in texts.items()],
            )
            records = job.trace[job.trace["run"] == name]
            metrics = [
                Metric(f"trace_{column}", float(value), 0, int(step))
                for column in ("objective", "error")
                for step, value in zip(
                    records["iteration"], records[column], strict=True
                )
            ]
            for at in range(0, len(metrics), 1000):  # MLflow's limit
                client.log_batch(run, metrics=metrics[at : at + 1000])
            client.set_terminated(run)
        with writing(record), record.open("a") as opened:
            opened.write(f"{done}\n")
    except exceptions.MlflowException as error:
        raise ValueError(f"mlflow={address!r}: {error}") from error


def _experiment(client: Any, exceptions: Any, study: str) -> str:
    """The id of MLflow's experiment of this name, which is created if missing."""
    found = client.get_experiment_by_name(study)
    if found is None:
        try:
            return client.create_experiment(study)
        except exceptions.MlflowException:
            # Another job of the study may have created it.
            found = client.get_experiment_by_name(study)
            if found is None:
                raise
    return found.experiment_id


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a nested config."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The finite numbers of a row."""
    for key, value in row.items():
        if isinstance(value, int | float | np.number) and np.isfinite(value):
            yield key, float(value)
