"""Timing and memory of competing programs under equal conditions; benchmarks/README.md explains the method."""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def interleaved_times(
    closures: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
    max_rounds: int = 200,
    clock: Callable[[Callable[[], object]], float] | None = None,
) -> dict[str, dict[str, float]]:
    """Time closures in turn, round after round, so that noise and clock changes affect all of them equally.

    `torch.utils.benchmark` times one closure after the other, and cannot do this.

    Args:
        closures: The closures to time, by name. Each is called twice before the clock starts.
        seconds: Time after which to stop, but not before five rounds.
        max_rounds: Number of rounds after which to stop.
        clock: Calls a closure and returns the milliseconds that it took; by default, wall-clock time.

    Returns:
        For each name the lower quartile, median and upper quartile in milliseconds, and the number of rounds.
    """
    for closure in closures.values():
        closure()
        closure()
    times: dict[str, list[float]] = {name: [] for name in closures}
    gc.disable()
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 5 or (rounds < max_rounds and time.perf_counter() < end):
        for name, closure in closures.items():
            times[name].append((clock or wall_clock)(closure))
        rounds += 1
    gc.enable()
    return {name: _quartiles(values) for name, values in times.items()}


def rows_over_plain(
    times: Mapping[str, Mapping[str, float]],
    *,
    plain: str = "plain",
    peaks: Mapping[str, float] | None = None,
    errors: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Rows of times, and of peak memory and errors where known, with ratios to the program `plain`."""
    rows: list[dict[str, Any]] = []
    for program, quartiles in times.items():
        row = {"program": program, **quartiles, "over_plain": quartiles["median_ms"] / times[plain]["median_ms"]}
        if peaks is not None:
            row |= {"peak_mib": peaks[program], "peak_over_plain": peaks[program] / peaks[plain]}
        if errors is not None and program in errors:
            row["error"] = errors[program]
        rows.append(row)
    return rows


def wall_clock(closure: Callable[[], object]) -> float:
    start = time.perf_counter()
    closure()
    return 1e3 * (time.perf_counter() - start)


def cuda_clock(closure: Callable[[], object]) -> float:
    """Milliseconds between two events on the GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()  # type: ignore[no-untyped-call]
    closure()
    end.record()  # type: ignore[no-untyped-call]
    end.synchronize()  # type: ignore[no-untyped-call]
    elapsed: float = start.elapsed_time(end)  # type: ignore[no-untyped-call]
    return elapsed


def peak_memory(function: Callable[..., object], *args: object) -> float:
    """MiB by which one call raises the peak resident memory of a new process.

    Args:
        function: A top-level function that prepares its inputs and returns the closure to measure.
        args: Arguments of the function, which can be pickled.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak, args=(sender, function, args))
    process.start()
    sender.close()
    try:
        peak: float = receiver.recv()
    except EOFError:
        raise MemoryError(f"{function.__name__}{args} ended without a result: most likely out of memory.") from None
    finally:
        process.join()
    return peak


def peak_memory_cuda(closure: Callable[[], object]) -> float:
    """MiB by which one call raises the memory of tensors on the GPU; call the closure before, for one-time costs."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    closure()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def machine(device: str = "cpu") -> dict[str, Any]:
    """Description of the machine, which numbers depend on."""
    return ({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}) | {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def run(
    name: str, description: str, benchmark: Callable[..., list[dict[str, Any]]], **options: Mapping[str, Any]
) -> None:
    """Run a benchmark from the command line, print its rows as a table, and write them as JSON.

    ``options`` are flags whose values the benchmark gets, with the arguments of ``add_argument``.
    """
    from rich.console import Console  # may be missing on a machine with a GPU
    from rich.table import Table

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--keep-memory", action="store_true", help="let the allocator keep the memory of large tensors")
    for option, reading in options.items():
        parser.add_argument(f"--{option}", **reading)
    arguments = vars(parser.parse_args())
    out: Path = arguments.pop("out")
    torch.set_num_threads(arguments.pop("threads"))
    keep = arguments.pop("keep_memory")
    if keep:
        _keep_freed_memory()
    torch.manual_seed(0)
    metadata = machine(arguments.get("device", "cpu")) | {"freed memory": "kept" if keep else "given back"}
    rows = benchmark(**arguments)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"benchmark": description, "machine": metadata, "rows": rows}, indent=2) + "\n")
    table = Table(title=description, caption=", ".join(f"{key} {value}" for key, value in metadata.items()))
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if not key.endswith(("low_ms", "high_ms"))
    ]
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(_cell(row, column) for column in columns))
    Console().print(table)


def _quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"low_ms": low, "median_ms": median, "high_ms": high, "rounds": len(values)}


def _send_peak(sender: Any, function: Callable[..., Callable[[], object]], args: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    closure = function(*args)
    ctypes.CDLL(None).malloc_trim(0)  # so that freed memory cannot be used again
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the resident memory
    before = _peak_kib()
    closure()
    sender.send((_peak_kib() - before) / 1024)


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory of large tensors, as the allocators of GPUs do, without page faults for each."""
    for parameter, value in (-4, 0), (-1, 2**31 - 1), (-2, 2**29):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        ctypes.CDLL(None).mallopt(parameter, value)


def _peak_kib() -> int:
    """Peak resident memory of this process, on Linux; ``getrusage`` would include the parent's peak."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _cell(row: dict[str, Any], column: str) -> str:
    """Format a number with three digits, and a median with its quartiles."""
    if column.endswith("median_ms"):
        name = column.removesuffix("median_ms")
        if column not in row:
            return ""
        return f"{_number(row[column])} [{_number(row[name + 'low_ms'])}, {_number(row[name + 'high_ms'])}]"
    return _number(row.get(column, ""))


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
