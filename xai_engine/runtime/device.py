"""Where and how precisely to compute: picked once, carried by every result.

bf16 is chosen only where the processor computes in it (AVX512_BF16, AMX, CUDA from Ampere on): emulated bf16
loses digits and wins no time.
"""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from xai_engine import __version__
from xai_engine.errors import UsageError

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")
BACKENDS = ("auto", "torch", "openvino", "onnx")


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """device: "cpu" or "cuda"; precision: "fp32" or "bf16"; threads: CPU threads of one operation; backend: what runs
    long series of forward passes (one of BACKENDS, "auto": a compiled one where it agrees with torch and is faster).
    """

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    threads: int
    backend: str = "torch"


def choose(
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    *,
    bf16_allowed: bool = True,
    threads: int = 0,
) -> DevicePolicy:
    """The policy for this machine. Loads torch.

    threads: most CPU threads wanted; 0 for as many as there are physical cores. Never more than the process may use.
    bf16_allowed: False when the task needs full precision; `auto` then gives fp32. An explicit "bf16" is
    obeyed.
    Raises UsageError for unknown names and for "cuda" where no GPU answers.
    """
    if device not in DEVICES:
        raise UsageError(f"device {device!r}: unknown; use one of {', '.join(DEVICES)}")
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}: unknown; use one of {', '.join(PRECISIONS)}")
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r}: unknown; use one of {', '.join(BACKENDS)}")
    chosen: Literal["cpu", "cuda"] = "cpu"
    if device != "cpu":
        problem = cuda_problem()
        if not problem:
            chosen = "cuda"
        elif device == "cuda":
            raise UsageError(f"device cuda: {problem}; use --device cpu or auto")
    reduced = precision == "bf16" or (precision == "auto" and bf16_allowed and _computes_bf16(chosen))
    if chosen == "cuda":
        backend = "torch"  # the others are compiled for processors
    return DevicePolicy(chosen, "bf16" if reduced else "fp32", _threads(threads), backend)


def apply(policy: DevicePolicy) -> None:
    """Set torch's thread count for this process."""
    import torch

    if torch.get_num_threads() != policy.threads:
        torch.set_num_threads(policy.threads)


def environment(policy: DevicePolicy) -> dict[str, Any]:
    """What the numbers depend on, JSON-ready, for `analysis.json` and the report. No host or user name."""
    import torch

    return {
        "engine": __version__,
        "torch": str(torch.__version__),
        "monai": _version("monai"),
        "numpy": _version("numpy"),
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": policy.device,
        "device_name": torch.cuda.get_device_name() if policy.device == "cuda" else _processor(),
        "precision": policy.precision,
        "threads": policy.threads,
        "backend": policy.backend,
    }


@cache
def cuda_problem() -> str:
    """Why CUDA cannot be used here, in a few words; "" when it can.

    `is_available()` is not enough: a driver too old, a GPU too new for this build or one whose memory is
    taken all answer True and fail at the first kernel.
    """
    import torch

    try:
        if not torch.cuda.is_available():
            return "this PyTorch is built without CUDA" if torch.version.cuda is None else "no GPU found"
        probe = torch.ones(8, device="cuda")
        if float((probe * 2).sum()) != 16.0:
            return "the GPU computes wrongly"
    except Exception as error:
        return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return ""


def _computes_bf16(device: str) -> bool:
    import torch

    if device == "cuda":
        try:
            return bool(torch.cuda.get_device_capability()[0] >= 8)
        except Exception:
            return False
    flags = _cpu_flags()
    return bool(flags & {"avx512_bf16", "amx_bf16"})


@cache
def _cpu_flags() -> frozenset[str]:
    import torch

    try:
        return frozenset(name for name, there in torch.cpu.get_capabilities().items() if there is True)
    except Exception:  # older torch has no such call
        pass
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return frozenset(next(line for line in lines if line.startswith("flags")).split())
    except (OSError, StopIteration):
        return frozenset()


def _threads(wanted: int = 0) -> int:
    """Physical cores that this process may use; `wanted` (unless 0) and OMP_NUM_THREADS lower it."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = min(_physical_cores(), allowed, _quota(), wanted or 1 << 16)
    with suppress(KeyError, ValueError):
        threads = min(threads, int(os.environ["OMP_NUM_THREADS"]))
    return max(1, threads)


@cache
def _physical_cores() -> int:
    try:
        import torch

        cores = torch.cpu.get_capabilities().get("num_physical_cores")
        if isinstance(cores, int) and cores > 0:
            return cores
    except Exception:
        pass
    try:  # Linux: distinct (package, core) pairs
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as text:
            blocks = text.read().strip().split("\n\n")
        pairs = set()
        for block in blocks:
            fields = dict(line.split(":", 1) for line in block.splitlines() if ":" in line)
            trimmed = {key.strip(): value.strip() for key, value in fields.items()}
            if "core id" in trimmed:
                pairs.add((trimmed.get("physical id", "0"), trimmed["core id"]))
        if pairs:
            return len(pairs)
    except OSError:
        pass
    return os.cpu_count() or 1


def _quota() -> int:
    """Whole CPUs that a container grants (cgroup v2, then v1); many where there is no limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as text:
            quota, period = text.read().split()[:2]
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", encoding="ascii") as text:
                quota = text.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us", encoding="ascii") as text:
                period = text.read().strip()
        except OSError:
            return 1 << 16
    if quota in ("max", "-1"):
        return 1 << 16
    return max(1, int(quota) // max(1, int(period)))


@cache
def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:  # a frozen program may lack the metadata
        module = sys.modules.get(package)
        return str(getattr(module, "__version__", "unknown"))
