"""Small problems that both sides of a page are run on; NumPy and scikit-learn only."""

import json
from pathlib import Path

import numpy as np

STORE = Path(__file__).parent / "peers.json"


def digits():
    """Handwritten digits of scikit-learn, 1797 × 61, and a start (W, H) of rank 10.

    Three pixels are 0 in every picture; R's NMF refuses them, and they are left out.
    """
    from sklearn.datasets import load_digits

    V = load_digits().data
    V = V[:, V.any(axis=0)]
    return V, *start(V, 10)


def start(V, rank, seed=0):
    """A random start (W, H) of the scale of V."""
    rng = np.random.default_rng(seed)
    scale = 2 * np.sqrt(V.mean() / rank)
    m, n = V.shape
    return scale * rng.random((m, rank)), scale * rng.random((rank, n))


def cells():
    """Poisson counts of 300 cells × 400 genes from four programs, and the programs."""
    rng = np.random.default_rng(1)
    programs = rng.gamma(0.3, size=(4, 400)) + 0.01
    programs /= programs.sum(1, keepdims=True)
    usage = rng.dirichlet(np.full(4, 0.4), size=300)
    depth = rng.lognormal(8, 0.3, size=(300, 1))
    return rng.poisson(depth * usage @ programs), programs


def mutations():
    """Counts of 96 types of mutation in 40 tumours, from three signatures."""
    rng = np.random.default_rng(2)
    signatures = rng.gamma(0.4, size=(3, 96)) + 1e-3
    signatures /= signatures.sum(1, keepdims=True)
    exposures = rng.gamma(1.0, 800.0, size=(40, 3))
    types = [
        f"{left}[{change}]{right}"
        for change in ("C>A", "C>G", "C>T", "T>A", "T>C", "T>G")
        for left in "ACGT"
        for right in "ACGT"
    ]
    return rng.poisson(exposures @ signatures), signatures, types


def ratings():
    """Ratings 1 to 5 of 200 users and 120 films: what is known, and what is asked.

    Returns (users, films, stars) of a training and of a test part.
    """
    rng = np.random.default_rng(3)
    taste, film = rng.gamma(1.0, size=(200, 3)), rng.gamma(1.0, size=(3, 120))
    mean = taste @ film
    mean = 1 + 4 * mean / (mean + np.median(mean))
    known = rng.random(mean.shape) < 0.25
    users, films = np.nonzero(known)
    stars = np.clip(np.round(mean[known] + 0.4 * rng.normal(size=users.size)), 1, 5)
    test = rng.random(users.size) < 0.2
    return tuple((users[part], films[part], stars[part]) for part in (~test, test))


def relative_error(V, W, H):
    """‖V − WH‖ / ‖V‖ in float64, for either side."""
    V, W, H = (np.asarray(x, np.float64) for x in (V, W, H))
    return float(np.linalg.norm(V - W @ H) / np.linalg.norm(V))


def divergence(V, W, H):
    """The Kullback-Leibler divergence of V from WH in float64, for either side."""
    V, W, H = (np.asarray(x, np.float64) for x in (V, W, H))
    X = np.maximum(W @ H, np.finfo(np.float64).tiny)
    return float(np.sum(V * np.log(np.where(V > 0, V / X, 1)) - V + X))


def likeness(found, true):
    """The least cosine between true components and the found ones matched to them."""
    from scipy.optimize import linear_sum_assignment

    found, true = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, true))
    cosines = np.asarray(true) @ np.asarray(found).T
    return float(cosines[linear_sum_assignment(-cosines)].min())


def stored(peer):
    """What `run_peers.py` stored of a package: version, arguments, runs."""
    return json.loads(STORE.read_text(encoding="utf-8"))[peer]


def theirs(peer):
    """The stored runs of a package, as a table in Markdown."""
    from IPython.display import Markdown

    found = stored(peer)
    lines = [
        f"Stored by `python docs/coming_from/run_peers.py {peer}`, with",
        f"{found['version']} under {found['under']}; the build of this page does not "
        "run it.",
        "",
        "| their call | result |",
        "|---|---|",
        *(f"| `{call}` | {result} |" for call, result in found["runs"].items()),
    ]
    return Markdown("\n".join(lines))
