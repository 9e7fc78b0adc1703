"""Does a graph of pixels find the materials of a noisy scene better than smoothing?

V is the scene with Poisson noise of so many photons an entry on average. Three answers:
the factorisation alone, its maps W smoothed by the Gaussian filter of the best width,
and the factorisation with a graph of the pixels, at each weight. Two numbers each: how
far the maps are from those of the scene without noise, as unit columns in the best
order, and how far W H is from that scene, both relative. It needs samson and
jasper_ridge in the folder JAXNMF_DATA.

    python experiments/neighbours/neighbours.py
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
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
    main()
