"""`jaxnmf plan`: what a factorisation needs of devices and their network, before it is
run."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxnmf import costs
from jaxnmf._util.names import suggestion

BYTES = {"float32": 4, "float64": 8}
NODE = 8  # devices that have the faster connection, and share a process
TERA, GIGA = 1e12, 1e9
PREFIXES = ("", "k", "M", "G", "T", "P", "E")


class Device(NamedTuple):
    """What a device can do, by its data sheet.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      flops: operations a second in float32 and in float64, of full precision.
      bandwidth: bytes a second of its memory.
      memory: bytes.
      near, far: bytes a second that it sends, within a node and beyond.
    """

    platform: str
    flops: tuple[float, float]
    bandwidth: float
    memory: float
    near: float
    far: float


def _here() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return 16 * GIGA


# Of a TPU a product in float32 is six in bfloat16, and float64 is emulated. "cpu" is
# two cores with AVX-512, the memory of this machine, and Ethernet of 10 Gbit/s.
DEVICES: dict[str, Device] = {
    "cpu": Device("cpu", (0.15 * TERA, 0.075 * TERA), 20e9, _here(), 10e9, 1.25e9),
    "a100": Device("gpu", (19.5 * TERA, 9.7 * TERA), 2.0e12, 80e9, 300e9, 25e9),
    "h100": Device("gpu", (67 * TERA, 34 * TERA), 3.35e12, 80e9, 450e9, 50e9),
    "h200": Device("gpu", (67 * TERA, 34 * TERA), 4.8e12, 141e9, 450e9, 50e9),
    "v5e": Device("tpu", (33 * TERA, math.nan), 0.82e12, 16e9, 200e9, 200e9),
    "v5p": Device("tpu", (76 * TERA, math.nan), 2.77e12, 95e9, 600e9, 600e9),
}


class Limit(NamedTuple):
    """A limit: what is needed, and what there is."""

    name: str
    needed: float
    allowed: float

    @property
    def share(self) -> float:
        return self.needed / self.allowed


@dataclasses.dataclass(frozen=True)
class Plan:
    """The costs of a factorisation on a mesh.

    Attributes:
      asked: the settings.
      grid: the mesh, a×b.
      repeats: sweeps over W and over H for each product; (0, 0) of mu.
      memory: bytes on a device, by what they are.
      times: seconds of an iteration on each device by what takes them, each with the
        amount and the rate.
      limits: the tightest first.
    """

    asked: Asked
    grid: tuple[int, int]
    repeats: tuple[int, int]
    memory: dict[str, float]
    times: dict[str, tuple[float, float, float]]
    limits: list[Limit]

    @property
    def binds(self) -> str:
        """What takes longest in an iteration."""
        return max(self.times, key=lambda name: self.times[name][0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """The settings of a plan, as `parse` reads them."""

    m: int
    n: int
    p: int
    density: float = 1.0
    solver: str = "hals"
    mesh: str = "auto"
    devices: int = 1
    processes: int = 0  # one for every node
    dtype: str = "float32"
    device: str = "cpu"
    flops: float = math.nan  # of the device by default, as the next three
    bandwidth: float = math.nan
    memory: float = math.nan
    link: float = math.nan


def parse(given: Sequence[str]) -> Asked:
    """The settings in ``key=value``.

    Raises:
      ValueError: names the first that is unknown, missing or no value it can have.
    """
    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not a setting; expected key=value")
        if key not in _READ:
            raise ValueError(
                f"{key} is not a setting{suggestion(key, _READ)}; choose from: "
                + ", ".join(_READ)
            )
        found[key] = _READ[key](key, value)
    if missing := [key for key in ("m", "n", "p") if key not in found]:
        raise ValueError(f"{missing[0]} is missing: give it a value, as in m=1e6")
    if found["p"] > min(found["m"], found["n"]):
        raise ValueError(
            f"p={found['p']} is more than min(m, n) = {min(found['m'], found['n'])}"
        )
    shape = re.fullmatch(r"(\d+)(?:x(\d+))?", found.get("mesh", ""))
    if shape:
        own = math.prod(int(size) for size in shape.groups(1))
        if found.setdefault("devices", own) != own:
            raise ValueError(
                f"mesh={found['mesh']} has {own} devices, and devices="
                f"{found['devices']}"
            )
    return Asked(**found)


def plan(asked: Asked) -> Plan:
    """The costs of what was asked.

    Raises:
      ValueError: the mesh has more rows or columns than V, or there is no rate of the
        device for the dtype.
    """
    m, n, p, density = asked.m, asked.n, asked.p, asked.density
    a, b = grid = _grid(asked)
    if a > m or b > n:
        raise ValueError(f"mesh={a}x{b} has more rows or columns than V, {m}×{n}")
    device, size = _device(asked), BYTES[asked.dtype]
    if math.isnan(device.flops[0]):
        raise ValueError(
            f"dtype={asked.dtype}: {asked.device} has no rate for it; give one by "
            "flops="
        )
    repeats = (0, 0)
    if asked.solver != "mu":
        repeats = costs.sweeps(m, n, p, density, device.platform)
    block = m / a, n / b
    memory = costs.memory(
        *block, p, density, size, asked.solver, device.platform == "tpu"
    )
    accelerator = device.platform != "cpu"
    flops = costs.product_flops(*block, p, density)
    flops += costs.factor_flops(*block, p, asked.solver, repeats)
    moved = sum(costs.product_bytes(*block, p, density, size))
    moved += costs.factor_bytes(
        *block, p, density, size, asked.solver, repeats, accelerator
    )
    sent = costs.sent_bytes(m, n, p, size, grid)
    amounts = {
        "operations": (flops, device.flops[0]),
        "memory traffic": (moved, device.bandwidth),
        "network": (sent, device.near),
    }
    times = {name: (x / rate, x, rate) for name, (x, rate) in amounts.items()}
    return Plan(
        asked=asked,
        grid=grid,
        repeats=repeats,
        memory=memory,
        times=times,
        limits=_limits(asked, grid, memory, device),
    )


def as_text(found: Plan) -> str:
    """A plan in lines of at most 80 columns."""
    asked, (a, b) = found.asked, found.grid
    nnz = costs.entries(asked.m, asked.n, asked.density)
    sort = "dense" if asked.density == 1 else f"density {asked.density:g}"
    solver = asked.solver
    if any(found.repeats):
        solver += ", {} sweeps over W and {} over H".format(*found.repeats)
    lines = [
        f"V {asked.m:,} × {asked.n:,}, {sort}, {nnz:.3g} entries, {asked.dtype}",
        f"p = {asked.p}, {solver}",
        f"mesh {a}×{b} of {asked.device}, a block of V {asked.m / a:,.0f} × "
        f"{asked.n / b:,.0f}",
        "",
        "memory of a device",
    ]
    for name, amount in found.memory.items():
        lines.append(f"  {name:<16}{_amount(amount, 'B'):>12}")
    if max(a, b) > 1:
        lines.append(f"  copies of each part: {b:,} of W, {a:,} of H")
    lines += ["", "an iteration, on each device"]
    unit = {"operations": "FLOP"}
    for name, (seconds, amount, rate) in found.times.items():
        what = unit.get(name, "B")
        line = f"  {name:<16}{_amount(amount, what):>12}{_seconds(seconds):>12}"
        line += f"  at {_amount(rate, what + '/s')}"
        lines.append(line + "  ← binds" * (name == found.binds))
    lines += ["", "limits, the tightest first"]
    for limit in found.limits:
        verdict = "breaks" if limit.share > 1 else f"{limit.share:.2%}"
        lines.append(
            f"  {limit.name:<44}{limit.needed:>9.3g} of {limit.allowed:>8.3g}"
            f"{verdict:>10}"
        )
    first = found.limits[0]
    if first.share <= 1:
        lines.append(f"  {1 / first.share:.3g} times as much breaks the first")
    size = BYTES[asked.dtype]
    W, H = (_amount(asked.p * x * size, "B") for x in (asked.m, asked.n))
    lines += ["", f"As a whole, in one process, W has {W} and H {H}."]
    return "\n".join(lines)


def _limits(
    asked: Asked, grid: tuple[int, int], memory: dict[str, float], device: Device
) -> list[Limit]:
    count = grid[0] * grid[1]
    processes = asked.processes or -(-count // NODE)
    found = [Limit("bytes of a device", sum(memory.values()), device.memory)]
    if asked.density < 1:
        nnz = costs.entries(asked.m, asked.n, asked.density)
        found += [
            Limit("int32: entries of a device", nnz / count, costs.INT32),
            Limit(
                f"int32: entries read by 1 of {processes:,} processes",
                nnz / processes,
                costs.INT32,
            ),
            Limit("int32: rows or columns", max(asked.m, asked.n), costs.INT32),
        ]
    return sorted(found, key=lambda limit: -limit.share)


def _grid(asked: Asked) -> tuple[int, int]:
    shape = re.fullmatch(r"(\d+)(?:x(\d+))?", asked.mesh)
    if shape:
        a, b = shape.groups("1")
        return int(a), int(b)
    if asked.mesh == "rows":
        return asked.devices, 1
    return costs.best_grid(asked.m, asked.n, asked.p, asked.devices)


def _device(asked: Asked) -> Device:
    """With the rates that were given, one of each."""
    device = DEVICES[asked.device]
    double = asked.dtype == "float64"
    link = device.near if asked.devices <= NODE else device.far

    def chosen(given: float, own: float) -> float:
        return own if math.isnan(given) else given

    flops = chosen(asked.flops, device.flops[double])
    link = chosen(asked.link, link)
    return device._replace(
        flops=(flops, flops),
        bandwidth=chosen(asked.bandwidth, device.bandwidth),
        memory=chosen(asked.memory, device.memory),
        near=link,
        far=link,
    )


def _amount(x: float, unit: str) -> str:
    """A number with a prefix: 3.1 GB."""
    power = min(max(int(math.log10(max(x, 1)) / 3), 0), len(PREFIXES) - 1)
    if x / 1000**power >= 999.5 and power + 1 < len(PREFIXES):
        power += 1
    return f"{x / 1000**power:.3g} {PREFIXES[power]}{unit}"


def _seconds(x: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if x >= size:
            return f"{x / size:.3g} {unit}"
    return f"{x / 1e-6:.3g} µs"


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{key}={text} is not a number > 0")
    return value


def _integer(key: str, text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (1 <= value < math.inf and value == int(value)):
        raise ValueError(f"{key}={text} is not an integer ≥ 1")
    return int(value)


def _share(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise ValueError(f"{key}={text} is not in (0, 1]; 1 is a dense V")
    return value


def _name(known: Sequence[str], what: str) -> Callable[[str, str], str]:
    def read(key: str, text: str) -> str:
        if text not in known:
            raise ValueError(
                f"{key}={text} {what}{suggestion(text, known)}; choose from: "
                + ", ".join(known)
            )
        return text

    return read


def _mesh(key: str, text: str) -> str:
    if text in ("rows", "auto"):
        return text
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", text):
        raise ValueError(
            f"{key}={text} is not a mesh; expected its shape, as in 4x2 or 8, or rows "
            "or auto with devices="
        )
    return text


_READ: dict[str, Callable[[str, str], Any]] = {
    "m": _integer,
    "n": _integer,
    "p": _integer,
    "density": _share,
    "solver": _name(list(costs.COPIES), "has no formula of its costs"),
    "mesh": _mesh,
    "devices": _integer,
    "processes": _integer,
    "dtype": _name(list(BYTES), "is not known"),
    "device": _name(list(DEVICES), "is not known"),
    "flops": _number,
    "bandwidth": _number,
    "memory": _number,
    "link": _number,
}
