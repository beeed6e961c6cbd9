"""Learning curves: CSV, picture, and events that are read back byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("tensorboardX")

from xai_engine.train import checkpoint, curves

ROWS = [
    {"epoch": e, "size": 32, "lr": 0.01 / e, "loss": 1 / e, "val_loss": 0.7, "val_auc": 0.5, "val_auc_all": 0.5 + e / 10}
    for e in (1, 2, 3)
]  # fmt: skip


def _crc32c(data: bytes) -> int:
    """Castagnoli's polynomial, bit by bit (RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _fields(data: bytes) -> list[tuple[int, bytes | int]]:
    """Fields of a protobuf message by number, undecoded."""
    out: list[tuple[int, bytes | int]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        size = {0: 0, 1: 8, 5: 4}.get(key & 7)
        if size == 0:
            out.append((key >> 3, varint()))
            continue
        size = varint() if size is None else size
        out.append((key >> 3, data[at : at + size]))
        at += size
    return out


def _scalars(folder: Path) -> dict[tuple[str, int], float]:
    """TFRecords of Event messages (tensorboard's event.proto): step 2, summary 5, value 1 with tag 1 and simple_value 2."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            (check,) = struct.unpack_from("<I", data, at + 8)
            crc = _crc32c(data[at : at + 8])
            assert check == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            event = dict(_fields(data[at + 12 : at + 12 + length]))
            at += 16 + length
            if 5 in event:
                value = dict(_fields(dict(_fields(event[5]))[1]))  # type: ignore[arg-type]
                (number,) = struct.unpack("<f", value[2])  # type: ignore[arg-type]
                found[(value[1].decode(), int(event.get(2, 0)))] = number  # type: ignore[union-attr, arg-type]
    return found


def test_every_figure_of_every_epoch_is_in_the_events(tmp_path: Path) -> None:
    writer = curves.Curves(tmp_path, 0)
    for row in ROWS:
        writer.add(row)
    writer.close()
    found = _scalars(tmp_path / curves.EVENTS)
    for row in ROWS:
        assert found[("loss/train", row["epoch"])] == pytest.approx(row["loss"])
        assert found[("loss/val", row["epoch"])] == pytest.approx(row["val_loss"])
        assert found[("auc/all", row["epoch"])] == pytest.approx(row["val_auc_all"])
        assert found[("lr", row["epoch"])] == pytest.approx(row["lr"])
    log = checkpoint.read_log(tmp_path)
    assert [float(r["val_auc_all"]) for r in log] == pytest.approx([r["val_auc_all"] for r in ROWS])
    picture = cv2.imread(str(tmp_path / curves.PICTURE))
    assert picture is not None
    assert np.ptp(picture) > 200


def test_without_the_extra_the_csv_is_still_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "find_spec", lambda name: None)
    assert curves.missing() == (
        "curves.png and TensorBoard events left out: pip install matplotlib tensorboardX"
    )
    writer = curves.Curves(tmp_path, 0)
    writer.add(ROWS[0])
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.LOG]
