"""Run other packages on the problems of these pages and store what comes out.

    python docs/coming_from/run_peers.py [NAME …]

Each name is one of the functions in PEERS; without names, all whose package is
installed. Needs no jaxnmf, only NumPy, scikit-learn and the packages themselves:

    pip install nimfa torchnmf cnmf scikit-surprise SigProfilerExtractor
    apt-get install r-cran-nmf r-cran-rcppml     # or install.packages in R

The versions, the arguments of their functions and the results go into peers.json,
which the pages read. R's packages are run by Rscript.
"""

import importlib.metadata
import inspect
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from problems import (
    STORE,
    cells,
    digits,
    divergence,
    likeness,
    mutations,
    ratings,
    relative_error,
)


def of(V, W, H):
    """The result of a run, to five digits."""
    return f"relative error {relative_error(V, W, H):.5f}"


def names(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def nimfa():
    import nimfa as peer

    if not hasattr(np, "mat"):  # nimfa 1.4 calls it; NumPy 2 no longer has it
        np.mat = np.asmatrix  # noqa: NPY201
    V, W, H = digits()
    runs = {}
    options = {"rank": 10, "max_iter": 200, "min_residuals": 0}
    fit = peer.Nmf(V, update="euclidean", W=W, H=H, **options)()
    W1, H1 = np.asarray(fit.basis()), np.asarray(fit.coef())
    runs['Nmf(V, rank=10, update="euclidean", W=W, H=H, max_iter=200)'] = of(V, W1, H1)
    fit = peer.Nmf(V, update="divergence", objective="div", W=W, H=H, **options)()
    W1, H1 = np.asarray(fit.basis()), np.asarray(fit.coef())
    call = 'Nmf(V, rank=10, update="divergence", objective="div", W=W, H=H, …)'
    runs[call] = f"divergence {divergence(V, W1, H1):.1f}"
    fit = peer.Lsnmf(V, W=W, H=H, **options)()
    W1, H1 = np.asarray(fit.basis()), np.asarray(fit.coef())
    runs["Lsnmf(V, rank=10, W=W, H=H, max_iter=200)"] = of(V, W1, H1)
    usual = ["V", "seed", "W", "H", "rank", "n_run", "callback", "callback_init"]
    usual += ["track_factor", "track_error", "update", "objective", "conn_change"]
    usual += ["max_iter", "min_residuals", "test_conv"]
    text = inspect.getdoc(peer.Nmf)
    documented = [name for name in usual if f":param {name}:" in text]
    return "nimfa", {"Nmf": documented}, runs


def torchnmf():
    import torch
    from torchnmf.nmf import NMF

    V, W, H = digits()
    runs = {}
    for beta, measure in ((2, of), (1, None)):
        model = NMF(W=torch.tensor(H.T).float(), H=torch.tensor(W).float())
        model.fit(torch.tensor(V).float(), beta=beta, tol=0, max_iter=200)
        W1, H1 = model.H.detach().numpy(), model.W.detach().numpy().T
        call = f"NMF(W=Ht, H=W).fit(V, beta={beta}, tol=0, max_iter=200)"
        found = measure(V, W1, H1) if measure else None
        runs[call] = found or f"divergence {divergence(V, W1, H1):.1f}"
    base = NMF.__mro__[1]
    arguments = {
        "NMF": ["Vshape", *names(base.__init__)],
        "fit": names(base.fit),
    }
    return "torchnmf", arguments, runs


def cnmf():
    import pandas as pd
    from cnmf import cNMF

    counts, programs = cells()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.tsv"
        frame = pd.DataFrame(
            counts,
            index=[f"cell{i}" for i in range(counts.shape[0])],
            columns=[f"gene{j}" for j in range(counts.shape[1])],
        )
        frame.astype(float).to_csv(path, sep="\t")
        run = cNMF(output_dir=folder, name="run")
        options = {"n_iter": 20, "seed": 14, "num_highvar_genes": 400}
        run.prepare(str(path), components=np.array([4]), **options)
        run.factorize()
        run.combine()
        run.consensus(k=4, density_threshold=0.5, show_clustering=False)
        _, _, spectra, _ = run.load_results(K=4, density_threshold=0.5)
        found = spectra.to_numpy().T
        if found.shape[1] != counts.shape[1]:
            found = spectra.to_numpy()
    call = "prepare(…, components=[4], n_iter=20); factorize(); combine(); consensus(4)"
    found = likeness(found, programs)
    runs = {call: f"least cosine with the planted programs {found:.4f}"}
    arguments = {
        "prepare": names(cNMF.prepare),
        "factorize": names(cNMF.factorize),
        "consensus": names(cNMF.consensus),
    }
    return "cnmf", arguments, runs


def surprise():
    import pandas as pd
    from surprise import NMF, Dataset, Reader, accuracy

    train, test = ratings()
    frame = pd.DataFrame(dict(zip(("user", "film", "stars"), train, strict=True)))
    data = Dataset.load_from_df(frame, Reader(rating_scale=(1, 5)))
    runs = {}
    for options in ({}, {"biased": True}):
        model = NMF(n_factors=3, random_state=0, **options)
        model.fit(data.build_full_trainset())
        error = accuracy.rmse(model.test(list(zip(*test, strict=True))), verbose=False)
        more = "".join(f", {key}={value}" for key, value in options.items())
        runs[f"NMF(n_factors=3, random_state=0{more}).fit(trainset)"] = (
            f"RMSE of held-out ratings {error:.4f}"
        )
    return "scikit-surprise", {"NMF": names(NMF.__init__)}, runs


def sigprofiler():
    import pandas as pd
    from SigProfilerExtractor import sigpro

    counts, signatures, types = mutations()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.txt"
        columns = [f"tumour{i}" for i in range(len(counts))]
        frame = pd.DataFrame(counts.T, index=types, columns=columns)
        frame.rename_axis("MutationType").to_csv(path, sep="\t")
        sigpro.sigProfilerExtractor(
            "matrix",
            f"{folder}/out",
            str(path),
            minimum_signatures=1,
            maximum_signatures=5,
            nmf_replicates=10,
            min_nmf_iterations=1000,
            max_nmf_iterations=20000,
            nmf_test_conv=1000,
            cpu=1,
            stop_after_extraction=True,
        )
        solutions = Path(folder).glob("out/SBS96/All_Solutions/*/Signatures/*.txt")
        tables = [pd.read_csv(one, sep="\t", index_col=0) for one in solutions]
        found = {one.shape[1]: one.loc[types].to_numpy().T for one in tables}
        statistics = pd.read_csv(Path(folder) / "out/SBS96/All_solutions_stat.csv")
    print(statistics.to_string())
    marked = statistics.iloc[:, 0].astype(str)
    chosen = "".join(marked[marked.str.contains(r"\*")]).strip("* ")
    call = 'sigProfilerExtractor("matrix", …, maximum_signatures=5, nmf_replicates=10)'
    least = likeness(found[3], signatures)
    runs = {
        call: f"suggests {chosen}; with 3, least cosine with the planted signatures "
        f"{least:.4f}"
    }
    arguments = {"sigProfilerExtractor": names(sigpro.sigProfilerExtractor)}
    return "SigProfilerExtractor", arguments, runs


def in_r(script):
    """The JSON that an R script writes, with V, W and H of the digits in its folder."""
    V, W, H = digits()
    with tempfile.TemporaryDirectory() as folder:
        for name, matrix in (("V", V), ("W", W), ("H", H)):
            np.savetxt(Path(folder) / f"{name}.csv", matrix, delimiter=",")
        (Path(folder) / "run.R").write_text(script)
        subprocess.run(["Rscript", "run.R"], cwd=folder, check=True)
        about = dict(
            line.split(": ", 1)
            for line in (Path(folder) / "out.txt").read_text().splitlines()
        )
        return about, {
            path.stem: np.loadtxt(path, delimiter=",")
            for path in Path(folder).glob("found*.csv")
        }


# V, W and H as the fields of R have them: features in rows.
R_START = """
V <- t(as.matrix(read.csv("V.csv", header = FALSE)))
Wt <- as.matrix(read.csv("W.csv", header = FALSE))
Ht <- as.matrix(read.csv("H.csv", header = FALSE))
dimnames(V) <- dimnames(Wt) <- dimnames(Ht) <- NULL
out <- function(x, name) write.table(x, name, sep = ",", row.names = FALSE,
                                     col.names = FALSE)
say <- function(name, x) cat(name, ": ", paste(x, collapse = ","), "\\n", sep = "",
                             file = "out.txt", append = TRUE)
say("R", paste(R.version$major, R.version$minor, sep = "."))
"""


def r_result(about, package, arguments, runs):
    version = f"{package} {about['version']}"
    return (version, f"R {about['R']}"), arguments, runs


def r_nmf():
    script = (
        R_START
        + """
suppressMessages(library(NMF))
nmf.options(cores = 1)
say("version", as.character(packageVersion("NMF")))
start <- nmfModel(10, V, W = t(Ht), H = t(Wt))
for (method in c("lee", "brunet", "snmf/r")) {
  fit <- nmf(V, 10, method, seed = start, maxIter = 200, .options = "-p")
  out(t(coef(fit)), sprintf("foundW%s.csv", substr(method, 1, 3)))
  out(t(basis(fit)), sprintf("foundH%s.csv", substr(method, 1, 3)))
}
"""
    )
    about, found = in_r(script)
    V, *_ = digits()
    runs = {}
    for method in ("lee", "brunet", "snmf/r"):
        W, H = found[f"foundW{method[:3]}"], found[f"foundH{method[:3]}"]
        call = f'nmf(V, 10, "{method}", seed=start, maxIter=200)'
        measure = f"divergence {divergence(V, W, H):.1f}" if method == "brunet" else ""
        runs[call] = measure or of(V, W, H)
    usual = ["x", "rank", "method", "seed", "rng", "nrun", "model", ".options"]
    usual += [".pbackend", ".callback", ".tmpdir"]
    return r_result(about, "NMF", {"nmf": usual}, runs)


def rcppml():
    script = (
        R_START
        + """
suppressMessages(library(RcppML))
say("version", as.character(packageVersion("RcppML")))
say("arguments", names(formals(RcppML::nmf)))
for (l1 in c(0, 0.1)) {
  fit <- RcppML::nmf(V, 10, tol = 0, maxit = 100, L1 = c(l1, l1), seed = 1,
                     verbose = FALSE)
  out(t(fit$h) %*% diag(fit$d), sprintf("foundW%d.csv", 10 * l1))
  out(t(fit$w), sprintf("foundH%d.csv", 10 * l1))
}
"""
    )
    about, found = in_r(script)
    V, *_ = digits()
    runs = {}
    for l1, key in ((0, "0"), (0.1, "1")):
        call = f"nmf(V, 10, tol=0, maxit=100, L1=c({l1}, {l1}), seed=1)"
        W, H = found[f"foundW{key}"], found[f"foundH{key}"]
        runs[call] = f"{of(V, W, H)}, {np.mean(H == 0):.0%} of w is zero"
    arguments = {"nmf 0.3.7": about["arguments"].split(",")}
    return r_result(about, "RcppML", arguments, runs)


PEERS = {
    "nimfa": nimfa,
    "torchnmf": torchnmf,
    "cnmf": cnmf,
    "surprise": surprise,
    "sigprofiler": sigprofiler,
    "r_nmf": r_nmf,
    "rcppml": rcppml,
}


def main(wanted):
    kept = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}
    for name in wanted or PEERS:
        if name in ("r_nmf", "rcppml") and shutil.which("Rscript") is None:
            print(f"{name}: no Rscript; what was stored stays")
            continue
        try:
            package, arguments, runs = PEERS[name]()
        except ModuleNotFoundError as missing:
            print(f"{name}: {missing}; what was stored stays")
            continue
        if isinstance(package, tuple):
            version, under = package
        else:
            version = f"{package} {importlib.metadata.version(package)}"
            under = f"Python {platform.python_version()}"
        kept[name] = {
            "version": version,
            "under": under,
            "arguments": arguments,
            "runs": runs,
        }
        print(name, json.dumps(kept[name], indent=2))
        text = json.dumps(dict(sorted(kept.items())), indent=2, ensure_ascii=False)
        STORE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
