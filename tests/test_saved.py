"""A result in a file is the result."""

from __future__ import annotations

import json

import numpy as np
import pytest

import jaxnmf

V = np.random.default_rng(0).random((12, 9)) + 0.1
MASK = np.random.default_rng(1).random(V.shape) < 0.7
MASK[3] = False


@pytest.fixture(
    params=[
        {},
        {"loss": "beta", "loss_options": {"beta": 0.5}, "solver": "mu", "l1": 0.01},
        {"constraints": ("box", "nonnegative")},
        {"constraints": "simplex", "solver": "ao-admm"},
        {"mask": MASK, "offsets": True, "l2": 0.1, "toward": "mean"},
        {"solver": "semi"},
    ],
    ids=["plain", "beta", "box", "simplex", "offsets", "signed"],
)
def result(request):
    given = {"solver": "hals", **request.param}
    return jaxnmf.factorize(V, 3, max_iter=20, **given)


@pytest.mark.slow
def test_what_was_saved_is_loaded(result, tmp_path):
    path = result.save(tmp_path / "a.result")
    assert path == tmp_path / "a.result.npz"
    found = jaxnmf.load(path)
    np.testing.assert_array_equal(found.W, result.W)
    np.testing.assert_array_equal(found.H, result.H)
    for name in ("trace", "unobserved", *(["offsets"] if result.offsets else [])):
        pairs = zip(getattr(found, name), getattr(result, name), strict=True)
        for x, y in pairs:
            np.testing.assert_array_equal(x, y)
    for name in ("objective", "relative_error", "iterations", "status", "seconds"):
        assert getattr(found, name) == getattr(result, name)
    new = np.random.default_rng(2).random((4, 9))
    np.testing.assert_array_equal(found.fold_in(new).W, result.fold_in(new).W)


def test_no_pickle_is_in_the_file(result, tmp_path):
    with np.load(result.save(tmp_path / "a.npz"), allow_pickle=False) as archive:
        assert all(archive[name].dtype.kind in "fiubU" for name in archive.files)


def test_of_a_function_as_loss_all_but_the_model_is_kept(tmp_path):
    result = jaxnmf.factorize(
        V, 2, solver="pgd", loss=lambda v, x: (v - x) ** 2, max_iter=3
    )
    found = jaxnmf.load(result.save(tmp_path / "a.npz"))
    np.testing.assert_array_equal(found.W, result.W)
    with pytest.raises(ValueError, match="no model to fit new rows"):
        found.fold_in(V)


@pytest.mark.parametrize("kind", ["missing", "cut", "foreign", "text", "later"])
def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(kind, tmp_path):
    path = jaxnmf.factorize(V, 2, max_iter=2).save(tmp_path / "a.npz")
    expected = "not a complete file of a result"
    if kind == "missing":
        path, expected = tmp_path / "other.npz", "there is no such file"
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "foreign":
        np.savez(path, W=V)
    elif kind == "text":
        path.write_text("W,H")
    else:
        with np.load(path) as archive:
            arrays = dict(archive)
        about = {**json.loads(str(arrays["about"])), "format": 99, "jaxnmf": "9.0"}
        np.savez(path, **{**arrays, "about": np.array(json.dumps(about))})
        expected = "written by jaxnmf 9.0 in format 99"
    with pytest.raises(ValueError, match=expected):
        jaxnmf.load(path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        jaxnmf.factorize(V, 2, max_iter=2).save(tmp_path / "none" / "a.npz")
