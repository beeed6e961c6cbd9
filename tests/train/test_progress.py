"""What is shown of a long run, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from xai_engine.runtime.run import Progress
from xai_engine.train.progress import Ticker


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _feed(ticker: Ticker, now: list[float], *events: tuple[float, float]) -> None:
    for moment, fraction in events:
        now[0] = moment
        ticker(Progress(fraction, "epoch 3/9, loss 0.412", moment, 1e9))


def test_a_bar_on_one_line_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream, now = Terminal(), [0.0]
    ticker = Ticker(stream, lambda: now[0])
    _feed(ticker, now, (0.0, 0.25), (0.1, 0.3), (100.0, 0.5))
    ticker.close()
    frames = stream.getvalue().split("\r")[1:]
    assert len(frames) == 2  # the second came too soon
    assert frames[0].startswith("[######------------------]  25.0%  epoch 3/9, loss 0.412")
    # a quarter took 100 s in this process, so the half that is left takes 200 s, whatever came before
    assert frames[1].rstrip() == "[############------------]  50.0%  epoch 3/9, loss 0.412, 3 min left"
    assert {len(frame.rstrip("\n")) for frame in frames} == {79}
    assert stream.getvalue().endswith("\n")


def test_lines_now_and_then_elsewhere() -> None:
    stream, now = io.StringIO(), [0.0]
    ticker = Ticker(stream, lambda: now[0])
    _feed(ticker, now, *((float(t), t / 40) for t in range(41)))
    ticker.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["0.0%", "25.0%", "50.0%", "75.0%", "100.0%"]
    assert lines[1] == " 25.0%  epoch 3/9, loss 0.412, 30 s left"
    assert "\r" not in stream.getvalue()


def test_no_comma_where_there_are_no_words() -> None:
    stream, now = io.StringIO(), [0.0]
    ticker = Ticker(stream, lambda: now[0])
    for moment, fraction in ((0.0, 0.0), (20.0, 0.5)):
        now[0] = moment
        ticker(Progress(fraction, "", moment, 1e9))
    assert stream.getvalue().splitlines() == ["  0.0%  ", " 50.0%  20 s left"]
