"""A worker is never spawned with OpenCV's folder on sys.path."""

from __future__ import annotations

import sys
import threading
import time

from xai_engine.runtime.worker import Worker


def test_a_worker_waits_while_opencv_is_being_imported(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "cv2"
    folder.mkdir()
    (folder / "typing.py").write_text("raise ImportError('the wrong typing')")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    threading.Timer(0.3, lambda: sys.path.remove(str(folder))).start()
    began = time.monotonic()
    with Worker("reader") as worker:
        assert worker.submit("tests.runtime.jobs:echo", 7).result(30) == 7
    assert time.monotonic() - began >= 0.25
