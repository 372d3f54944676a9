"""What the speed benchmarks share: clocks, FLOPs, the device's measured peak, the printed table.

FLOPs are those of matrix products, two per multiply-add, as `torch.utils.flop_counter` counts them
while the code runs; the peak is that of one large matrix product on the same device, in the same
precision and with the same threads. Torch is imported on use, so that imports can be timed too.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from mattergen_lite.model import CrystalDiffusion

Row = Mapping[str, str | int | float | bool]


def now(device: "torch.device") -> float:
    """Seconds on the clock once the device has finished what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timings(
    work: Callable[[], object], device: "torch.device", repeats: int, warmup: int = 1
) -> list[float]:
    """Seconds of each repetition after the warm-up."""
    for _ in range(warmup):
        work()
    seconds = []
    for _ in range(repeats):
        start = now(device)
        work()
        seconds.append(now(device) - start)
    return seconds


def median_seconds(work: Callable[[], object], device: "torch.device", repeats: int) -> float:
    """Typical seconds of a repetition."""
    return statistics.median(timings(work, device, repeats))


def network_dtype(model: "CrystalDiffusion") -> "torch.dtype":
    """Precision of the matrix products in the network."""
    import torch

    return torch.bfloat16 if model.mixed_precision else torch.float32


def count_flops(work: Callable[[], object]) -> int:
    """FLOPs of the matrix products in a piece of work, backward passes included."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def measured_peak(device: "torch.device", dtype: "torch.dtype", size: int | None = None) -> float:
    """FLOP/s of a square matrix product, the best of several."""
    import torch

    size = size or (8192 if device.type == "cuda" else 2048)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(timings(lambda: a @ b, device, repeats=5))


def print_table(rows: Sequence[Row]) -> None:
    """Rows as aligned columns, three significant digits."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def report(rows: Sequence[Row], facts: Row, path: Path | None) -> None:
    """Print the table, then everything as one line of JSON, which also goes into a file."""
    print_table(rows)
    line = json.dumps({**facts, "rows": rows})
    print(line)
    if path is not None:
        path.write_text(line + "\n")


def device_facts(device: "torch.device", dtype: "torch.dtype", peak: float) -> dict[str, str | int]:
    """Where a measurement was made."""
    import torch

    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "precision": str(dtype).removeprefix("torch."),
        "peak_gflop_per_s": peak / 1e9,
    }
