"""What the figures were measured on, and the memory of processes."""

from __future__ import annotations

import os
import platform
from typing import Any


def describe() -> dict[str, Any]:
    """The machine and the versions that figures depend on. No host or user name. Loads torch."""
    import torch

    from xai_engine.runtime import device

    policy = device.choose()
    memory = total_memory()
    about = device.environment(policy)
    return {
        "processor": device.environment(device.choose("cpu"))["device_name"],
        "device": about["device_name"] if policy.device == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "threads": policy.threads,
        "memory, GB": round(memory / 1e9, 1) if memory else "unknown",
        "precision": policy.precision,
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "torch": str(torch.__version__),
        "engine": about["engine"],
        "load per core before": load_per_core(),
    }


def load_per_core() -> float | str:
    """How busy the machine was over the last minute: above about 0.2 the figures are not to be trusted."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)


def total_memory() -> int | None:
    """Bytes of memory in this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def peak_memory(pid: int) -> float | None:
    """Largest resident size of a process so far, in MB (10**6 bytes), from /proc; None elsewhere or when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None
