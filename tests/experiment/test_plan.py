"""`jaxnmf plan`: the costs of a run, its limits, and settings that are refused."""

import pytest

from jaxnmf.experiment.cli import main
from jaxnmf.experiment.plan import as_text, parse, plan

LARGE = ["m=1e9", "n=1e6", "p=50", "devices=1024", "device=h100"]


def of(*given):
    return plan(parse(given))


@pytest.mark.parametrize(
    "given",
    [
        [*LARGE, "density=1e-3"],
        [*LARGE, "solver=extrapolated", "mesh=32x32", "dtype=float64"],
        ["m=1000", "n=500", "p=3", "solver=mu", "density=0.125", "device=v5p"],
    ],
)
def test_the_text_fits_a_terminal(given, capsys):
    assert main(["plan", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("← binds" in line for line in lines) == 1
    assert lines[0].startswith("V 1,000")


def test_the_numbers_of_a_dense_V():
    found = of("m=1e5", "n=1e4", "p=20", "solver=mu", "memory=1e9", "bandwidth=1e9")
    assert found.grid == (1, 1)
    assert found.memory["V"] == 4e9
    seconds, flops, rate = found.times["operations"]
    # 4mnp for the products, and little else.
    assert 8e10 < flops < 8.1e10
    assert seconds == flops / rate
    assert 8e9 < found.times["memory traffic"][1] < 8.1e9
    assert found.binds == "memory traffic"
    (limit,) = found.limits
    assert limit.share == pytest.approx(4, rel=0.02)
    assert "breaks" in as_text(found)


def test_a_mesh_divides_the_work_and_sends_the_factors():
    one = of("m=1e6", "n=1e5", "p=50", "density=0.01", "solver=mu")
    four = of("m=1e6", "n=1e5", "p=50", "density=0.01", "solver=mu", "mesh=4")
    assert four.asked.devices == 4
    assert one.times["network"][1] == 0
    assert four.times["network"][1] == 1.5 * 4 * 50 * (1e5 + 50)
    assert four.times["operations"][1] < 0.3 * one.times["operations"][1]
    more = of("m=1e6", "n=1e5", "p=50", "density=0.01", "solver=mu", "mesh=16")
    assert more.times["network"][2] < four.times["network"][2]  # beyond a node


def test_what_breaks_first_of_a_thousand_devices():
    """A billion rows and a million columns, sparse."""
    found = of(*LARGE, "density=1e-5")
    assert found.grid == (1024, 1)  # W is large: its rows are on one device each
    assert found.limits[0].name == "int32: rows or columns"
    assert found.limits[0].share == pytest.approx(1e9 / 2**31)
    assert found.binds == "network"
    assert "W has 200 GB" in as_text(found)
    # A hundred times the entries: no process can hold the places of its own.
    first = of(*LARGE, "density=1e-3").limits[0]
    assert first.name == "int32: entries read by 1 of 128 processes"
    assert first.share == pytest.approx(1e12 / 128 / 2**31)
    assert of(*LARGE, "density=1e-3", "processes=1024").limits[0].share < 1
    # On a grid W's parts are on many devices.
    grid = of(*LARGE, "density=1e-5", "mesh=32x32")
    assert grid.memory["factors"] > 10 * found.memory["factors"]
    assert grid.times["network"][1] > 10 * found.times["network"][1]


def test_more_sweeps_are_planned_where_hals_takes_more():
    few = of("m=1e4", "n=1e4", "p=50", "density=0.01")
    many = of("m=1e4", "n=1e4", "p=50")
    assert (few.repeats, many.repeats) == ((1, 1), (8, 8))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["m=1e6", "p=3"], ["n is missing"]),
        (["m=1e6", "n=10", "p=0"], ["p=0 is not an integer ≥ 1"]),
        (["m=1.5", "n=10", "p=1"], ["m=1.5 is not an integer"]),
        (["m=x", "n=10", "p=1"], ["m=x is not an integer"]),
        (["m=1e6", "n=10", "p=11"], ["p=11 is more than min(m, n) = 10"]),
        (["rank=3"], ["rank is not a setting", "choose from: m, n, p"]),
        (["densty=1"], ["densty is not a setting", "'density'"]),
        (["m"], ["'m' is not a setting; expected key=value"]),
        (["density=0"], ["density=0 is not in (0, 1]"]),
        (["solver=kl-newton"], ["solver=kl-newton has no formula", "hals, mu"]),
        (["mesh=2y2"], ["mesh=2y2 is not a mesh", "4x2"]),
        (["m=9", "n=9", "p=1", "mesh=4x2", "devices=4"], ["mesh=4x2 has 8 devices"]),
        (["m=9", "n=9", "p=1", "mesh=16"], ["mesh=16x1 has more rows", "9×9"]),
        (["dtype=float16"], ["dtype=float16 is not known", "float32, float64"]),
        (["device=h10"], ["device=h10 is not known", "'h100'"]),
        (["link=-1"], ["link=-1 is not a number > 0"]),
        (
            ["m=9", "n=9", "p=1", "device=v5e", "dtype=float64"],
            ["dtype=float64: v5e has no rate for it", "flops="],
        ),
    ],
)
def test_what_is_refused(given, said, capsys):
    assert main(["plan", *given]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    for text in said:
        assert text in printed
