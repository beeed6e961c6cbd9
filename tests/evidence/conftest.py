"""One report that many tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evidence import cases
from xai_engine.evidence import report
from xai_engine.evidence.case import CaseReview


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaseReview, Path]:
    case = cases.case()
    path = tmp_path_factory.mktemp("report") / "report.pdf"
    report.write(case, path)
    return case, path
