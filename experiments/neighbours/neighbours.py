"""Does a graph of pixels find the materials of a noisy scene better than smoothing?

V is the scene with Poisson noise of so many photons an entry on average. Three answers:
the factorisation alone, its maps W smoothed by the Gaussian filter of the best width,
and the factorisation with a graph of the pixels, at each weight. Two numbers each: how
far the maps are from those of the scene without noise, as unit columns in the best
order, and how far W H is from that scene, both relative. It needs samson and
jasper_ridge in the folder JAXNMF_DATA.

    python experiments/neighbours/neighbours.py [PICTURE.png]

With a picture, only that is made: the maps of samson with 0.1 photons.
"""

from __future__ import annotations

import sys
from itertools import permutations

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

import jaxnmf

WIDTHS = (0.75, 1.0, 1.5, 2.0, 3.0)
WEIGHTS = (10.0, 100.0, 1e3, 1e4, 1e5)
GIVEN = {"init": "nndsvda", "max_iter": 500, "tol": 1e-6, "l2": (0, 1.0)}


def units(W: np.ndarray) -> np.ndarray:
    """W with columns of unit norm."""
    return W / np.maximum(np.linalg.norm(W, axis=0), 1e-30)


def errors(
    W: np.ndarray, H: np.ndarray, of_clean: np.ndarray, clean: np.ndarray
) -> tuple[float, float]:
    """(of the maps, of W H), relative."""
    W_unit, unit, p = units(W), units(of_clean), W.shape[1]
    apart = min(
        np.linalg.norm(W_unit[:, list(order)] - unit)
        for order in permutations(range(p))
    )
    return (
        float(apart / np.sqrt(p)),
        float(np.linalg.norm(W @ H - clean) / np.linalg.norm(clean)),
    )


def picture(path: str) -> None:
    """Draw the maps of samson without noise, alone, smoothed, and with the graph, and
    print their correlations with the first."""
    scene = jaxnmf.datasets.load("samson")
    p, image = scene.rank or 3, scene.row_image
    assert image is not None
    clean = np.asarray(scene.V, np.float64) / scene.V.mean()
    rng = np.random.default_rng(0)
    V = (rng.poisson(clean * 0.1) / 0.1).astype(np.float32)
    graph = jaxnmf.grid_graph(*image), None
    of_clean = units(jaxnmf.factorize(clean, p, **GIVEN).W)
    alone = jaxnmf.factorize(V, p, **GIVEN).W
    smoothed = gaussian_filter(alone.reshape(*image, p), (2, 2, 0), mode="nearest")
    found = jaxnmf.factorize(V, p, graph=graph, graph_weight=4e3, **GIVEN).W
    rows = {
        "no noise": of_clean,
        "alone": units(alone),
        "smoothed, σ = 2": units(smoothed.reshape(-1, p)),
        "graph, λ = 4000": units(found),
    }
    figure, axes = plt.subplots(p, 4, figsize=(6, 4.8), layout="constrained")
    for column, (name, W) in zip(axes.T, rows.items(), strict=True):
        apart = {
            order: np.linalg.norm(W[:, list(order)] - of_clean)
            for order in permutations(range(p))
        }
        W = W[:, list(min(apart, key=apart.__getitem__))]
        like = [np.corrcoef(W[:, k], of_clean[:, k])[0, 1] for k in range(p)]
        print(name, np.round(like, 2))
        for k, ax in enumerate(column):
            high = np.percentile(of_clean[:, k], 99.5)
            ax.imshow(W[:, k].reshape(image), vmin=0, vmax=high, cmap="viridis")
            ax.set(xticks=[], yticks=[])
        column[0].set_title(name, fontsize="small")
    figure.savefig(path, dpi=90)
    with Image.open(path) as drawn:  # a third of its size with few colours
        drawn.convert("RGB").quantize(64).save(path, optimize=True)


def main() -> None:
    print(
        "| scene | photons | answer | setting | maps | W H |\n|---|---|---|---|---|---|"
    )
    for name in ("samson", "jasper_ridge"):
        scene = jaxnmf.datasets.load(name)
        assert scene.row_image is not None
        p, image = scene.rank or 3, scene.row_image
        clean = np.asarray(scene.V, np.float64) / scene.V.mean()
        of_clean = jaxnmf.factorize(clean, p, **GIVEN).W
        graph = jaxnmf.grid_graph(*image), None
        for photons in (0.1, 0.02):
            rng = np.random.default_rng(0)
            V = (rng.poisson(clean * photons) / photons).astype(np.float32)

            def show(
                answer: str,
                setting: str,
                W,
                H,
                photons=photons,
                of_clean=of_clean,
                clean=clean,
                name=name,
            ) -> None:
                of_maps, of_product = errors(W, H, of_clean, clean)
                print(
                    f"| {name} | {photons:g} | {answer} | {setting} | {of_maps:.3f} "
                    f"| {of_product:.3f} |",
                    flush=True,
                )

            plain = jaxnmf.factorize(V, p, **GIVEN)
            show("alone", "", plain.W, plain.H)
            for width in WIDTHS:
                maps = plain.W.reshape(*image, p)
                maps = gaussian_filter(maps, (width, width, 0), mode="nearest")
                show("smoothed", f"σ = {width:g}", maps.reshape(-1, p), plain.H)
            for weight in WEIGHTS:
                found = jaxnmf.factorize(
                    V, p, graph=graph, graph_weight=weight, **GIVEN
                )
                show("graph", f"λ = {weight:g}", found.W, found.H)


if __name__ == "__main__":
    picture(*sys.argv[1:]) if sys.argv[1:] else main()
