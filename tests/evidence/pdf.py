"""Reading reports back: text and pictures of a PDF, with MuPDF."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pymupdf
from PIL import Image

MM = 72 / 25.4
NAMES = {
    "latin": "Łukasiewicz^Żaneta",
    "greek": "Παπαδοπούλου^Ελένη",
    "cyrillic": "Иванов^Пётр",
    "japanese": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "korean": "Hong^Gildong=洪^吉洞=홍^길동",
    "thai": "สมชาย^ใจดี",
}


def flat(text: str) -> str:
    return " ".join(text.split())


def words(path: Path) -> str:
    with pymupdf.open(path) as document:
        return flat(" ".join(page.get_text() for page in document))


def squeezed(text: str) -> str:
    """Without blanks: long values wrap anywhere."""
    return "".join(text.split())


def pictures(path: Path) -> list[np.ndarray]:
    """Embedded pictures in the order of the pages."""
    out, seen = [], set()
    with pymupdf.open(path) as document:
        for page in document:
            for image in page.get_image_info(xrefs=True):  # in the order in which they are drawn
                if image["xref"] not in seen:
                    seen.add(image["xref"])
                    out.append(
                        np.array(Image.open(io.BytesIO(document.extract_image(image["xref"])["image"])))
                    )
    return out
