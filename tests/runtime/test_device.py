"""Device policy: what is asked for, what is there, what is recorded."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest
import torch

from xai_engine import __version__
from xai_engine.errors import UsageError
from xai_engine.runtime import device
from xai_engine.runtime.device import DevicePolicy


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.cuda_problem.cache_clear()


@pytest.mark.usefixtures("no_gpu")
def test_explicit_choices_are_obeyed() -> None:
    assert device.choose("cpu", "fp32").precision == "fp32"
    assert device.choose("cpu", "bf16").precision == "bf16"
    assert device.choose("auto", "fp32").device == "cpu"
    with pytest.raises(UsageError, match="use --device cpu or auto"):
        device.choose("cuda")
    for wrong in (("tpu", "auto"), ("auto", "fp16")):
        with pytest.raises(UsageError, match="unknown; use one of"):
            device.choose(*wrong)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("flags", "allowed", "expected"),
    [
        ({"avx2"}, True, "fp32"),
        ({"avx512_f", "avx512_bw"}, True, "fp32"),
        ({"avx512_bf16"}, True, "bf16"),
        ({"amx_bf16"}, True, "bf16"),
        ({"amx_bf16", "avx512_bf16"}, False, "fp32"),
    ],
)
def test_bf16_only_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], allowed: bool, expected: str
) -> None:
    monkeypatch.setattr(device, "_cpu_flags", lambda: frozenset(flags))
    assert device.choose("auto", "auto", bf16_allowed=allowed).precision == expected


def test_flags_agree_with_the_kernel() -> None:
    if not Path("/proc/cpuinfo").exists() or platform.machine() != "x86_64":
        pytest.skip("reads /proc/cpuinfo of x86")
    words = set(Path("/proc/cpuinfo").read_text().split())
    for flag in ("avx512_bf16", "amx_bf16", "avx2"):
        assert (flag in device._cpu_flags()) == (flag in words)


def test_a_gpu_that_fails_at_the_first_kernel_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", broken)
    device.cuda_problem.cache_clear()
    assert device.choose("auto", "fp32").device == "cpu"
    with pytest.raises(UsageError, match="no kernel image") as caught:
        device.choose("cuda")
    assert "\n" not in str(caught.value)
    device.cuda_problem.cache_clear()


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(device, "_physical_cores", lambda: 8)
    monkeypatch.setattr(device, "_quota", lambda: 1 << 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert device._threads() == 6
    monkeypatch.setattr(device, "_quota", lambda: 3)
    assert device._threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert device._threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "zero")
    assert device._threads() == 3


def test_environment_is_json_and_says_what_was_used() -> None:
    record = device.environment(DevicePolicy("cpu", "fp32", 2))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["engine"] == __version__
    assert record["torch"] == torch.__version__
    assert record["python"] == platform.python_version()
    assert (record["device"], record["precision"], record["threads"]) == ("cpu", "fp32", 2)
    assert record["monai"][0].isdigit()
    assert platform.node() not in json.dumps(record)


def test_fewer_threads_on_request_never_more() -> None:
    most = device.choose("cpu").threads
    assert device.choose("cpu", threads=1).threads == 1
    assert device.choose("cpu", threads=4096).threads == most
    assert device.choose("cpu", threads=0).threads == most
