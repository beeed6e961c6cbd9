"""The line of progress where standard error is a log: rare, and there while one image takes long."""

from __future__ import annotations

import pytest

from xai_engine.commands.progress import EVERY, Line
from xai_engine.runtime.run import Progress


@pytest.mark.parametrize("images", [1, 3])
def test_a_log_gets_a_line_every_ten_seconds_of_one_image(
    images: int, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    with Line(images, lambda: now) as line:
        for tenth in range(10 * 35):
            now = tenth / 10
            line.update(Progress(now / 35, "LIME", now, 35 - now))
        line.step("a.png", "normal")
        for tenth in range(50):  # the next one is done in five seconds
            now = 35 + tenth / 10
            line.update(Progress(0.5, "LIME", 1.0, 1.0))
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    expected = [f"[1/{images}]  {p}% LIME, {35 - s} s left" for s, p in ((10, 29), (20, 57), (30, 86))]
    assert EVERY == 10.0
    assert lines == expected + ([f"[1/{images}] a.png: normal"] if images > 1 else [])
