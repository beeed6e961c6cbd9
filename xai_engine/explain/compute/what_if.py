"""What would the classifier say if a region looked otherwise?

The region is changed in the picture, not in the network's input, and the changed picture goes through the ordinary
preprocessing, with one exception: lungs, crop, chest field and grey scale are kept from the original. Were they taken
anew, erasing an opacity would also move the crop and shift the grey of every other pixel, and the change of the score
would no longer be the region's doing. What the classifier says when it does take all of that anew is given beside it
(`anew`), because that is what it would say to a patient who looked so; where the two part, a note says so.

Any change moves a score a little. So the same change is made at random places of the lungs, with the same shape, and
the region's effect is read against theirs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, signal

from xai_engine import __version__
from xai_engine.classifier import preprocess
from xai_engine.errors import RefusedImage, UsageError
from xai_engine.explain.what_if import FILLS, Fill, Patch, Score, WhatIf
from xai_engine.radiograph import fill as fills
from xai_engine.radiograph import regions
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.mirror import Midline
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime.run import Run

if TYPE_CHECKING:
    from xai_engine.classifier.predict import Classifier, Prepared

SAMPLES = 20
BATCH = 3  # images changed and scored between two looks for cancellation: about a tenth of a second
INSIDE = (
    0.9,
    0.7,
    0.5,
)  # share of a random region that must lie in the lungs: the first that leaves enough places
OVERLAP = 0.1  # most of the region's area that a random region may cover
APART = 0.5  # logit; `anew` farther than this from `after` is worth a note
SAME = 1e-3  # logit: a picture made anew is the one that was scored
_Mask = npt.NDArray[np.bool_]


def ask(
    classifier: Classifier,
    radiograph: Radiograph,
    region: Region,
    fill: Fill,
    run: Run,
    *,
    line: Midline | None = None,
    samples: int = SAMPLES,
    anew: bool = True,
) -> WhatIf:
    """Change `region` and score. line: the mid-line for the fill "mirror"; the lungs' when None.

    samples: random regions to compare with. A run cancelled after the region was scored gives a partial result.
    Raises UsageError (unknown fill, region without pixels, a line), RefusedImage, Cancelled.
    """
    began = time.perf_counter()
    if fill not in FILLS:
        raise UsageError(f"no fill '{fill}'; choose one of {', '.join(FILLS)}")
    if region.kind == "line":
        raise UsageError(f"{_name(region)}: a line has no area that could be changed")
    prepared = classifier.prepared([radiograph])[0]
    if prepared.refusal:
        raise RefusedImage(f"{radiograph.path}: {prepared.refusal}")
    run.check(0.0, "changing the region")
    where = _Where(prepared, radiograph)
    mask = where.mask(region)
    if not (mask & prepared.valid).any():
        raise UsageError(
            f"{_name(region)}: no pixel of it is in what the classifier is shown; draw a larger one"
        )
    line = line or classifier.midline(radiograph)
    notes: list[str] = []

    def changed(at: _Mask, stream: int) -> npt.NDArray[np.float32]:
        picture, share = where.changed(fill, at, run.rng(stream), line)
        if stream == 0 and share < 0.99:
            notes.append(f"{1 - share:.0%} of the region has no counterpart in the image and stays as it is.")
        return picture

    if fill == "mirror" and line.note:
        notes.append(line.note)
    picture = changed(mask, 0)
    first = _scores(classifier, [prepared.input.array, classifier.changed(prepared, picture)])
    forwards = 2
    run.check(0.2, "scoring random regions")
    shown = where.shown(mask)
    if shown < 0.01:
        notes.append("The classifier is not shown this region at all.")
    elif shown < 0.5:
        notes.append(f"The classifier is shown only {shown:.0%} of this region.")
    patch = where.patch(region, picture)
    again = None
    if anew:
        again, refusal = _anew(classifier, radiograph, patch, region)
        forwards += 1
        if refusal:
            notes.append(f"The changed image would be refused: {refusal}")
        elif abs(again.logit - first[1].logit) > APART:
            notes.append(
                "Read from the start, with lungs and grey scale found anew, the changed image scores otherwise."
            )
    places, remark = where.places(mask, samples, run, line if fill == "mirror" else None)
    if remark:
        notes.append(remark)
    reference: list[Score] = []
    for start in range(0, len(places), BATCH):
        if not run.step(0.2 + 0.8 * start / len(places), "scoring random regions"):
            break
        arrays = []
        for number, place in enumerate(places[start : start + BATCH], start + 1):
            if run.cancelled:
                break
            arrays.append(classifier.changed(prepared, changed(place, number)))
        reference += _scores(classifier, arrays)
    partial = len(reference) < len(places)
    if partial:
        notes.append("Stopped before all random regions were scored.")
    else:
        run.step(1.0, "what if")
    return WhatIf(
        region=region,
        fill=fill,
        params={**where.params(fill, mask), "samples": samples},
        before=first[0],
        after=first[1],
        anew=again,
        reference=tuple(reference),
        share_shown=shown,
        patch=patch,
        seed=run.seed,
        forwards=forwards + len(reference),
        seconds=time.perf_counter() - began,
        partial=partial,
        image_sha256=radiograph.sha256,
        model_sha256=classifier.info.sha256,
        engine_version=__version__,
        device=classifier.device,
        precision="fp32",
        notes=tuple(notes),
    )


def with_picture(classifier: Classifier, radiograph: Radiograph, asked: WhatIf, line: Midline) -> WhatIf:
    """A result that was read back, with the changed picture made anew; as it is where that picture does not get the score
    that was recorded (another version of the fill, say).

    line: that of the analysis.
    """
    prepared = classifier.prepared([radiograph])[0]
    where = _Where(prepared, radiograph)
    picture, _ = where.changed(asked.fill, where.mask(asked.region), Run(seed=asked.seed).rng(0), line)
    (score,) = _scores(classifier, [classifier.changed(prepared, picture)])
    if abs(score.logit - asked.after.logit) > SAME:
        return asked
    return replace(asked, patch=where.patch(asked.region, picture))


def _name(region: Region) -> str:
    return region.name or (f"region {region.id}" if region.id else "the region")


def _scores(classifier: Classifier, arrays: list[npt.NDArray[np.float32]]) -> list[Score]:
    if not arrays:
        return []
    batch = torch.from_numpy(np.stack(arrays))
    logits = classifier.scores(batch, classifier.info.classes[-1], "fp32").cpu().numpy()
    return [
        Score(float(logit), float(p)) for logit, p in zip(logits, classifier.calibration(logits), strict=True)
    ]


def _anew(classifier: Classifier, radiograph: Radiograph, patch: Patch, region: Region) -> tuple[Score, str]:
    """Score of the changed image read from the start, and why the gate would refuse it, if it would."""
    digest = hashlib.sha256(radiograph.sha256.encode() + region.points.tobytes() + patch.values.tobytes())
    other = replace(radiograph, pixels=patch.on(radiograph.pixels), sha256=digest.hexdigest())
    prepared = classifier.prepared([other])[0]
    return _scores(classifier, [prepared.input.array])[0], prepared.refusal


class _Where:
    """Regions on the working copy, and the way between it and the source image."""

    def __init__(self, prepared: Prepared, radiograph: Radiograph) -> None:
        self.prepared, self.radiograph = prepared, radiograph
        rows, columns = prepared.grey.shape
        self.shape = (rows, columns)
        self.step = (radiograph.rows / rows, radiograph.columns / columns)

    def mask(self, region: Region) -> _Mask:
        """(rows, columns) of the working copy; the pixel under the middle where none has its centre inside."""
        small = replace(region, points=region.points / np.array(self.step))
        found = regions.mask(small, self.shape)
        if not found.any():
            row, column = np.floor(regions.outline(small).mean(axis=0)).astype(int)
            if 0 <= row < self.shape[0] and 0 <= column < self.shape[1]:
                found[row, column] = True
        return found

    def changed(
        self, fill: Fill, at: _Mask, rng: np.random.Generator, line: Midline
    ) -> tuple[npt.NDArray[np.float32], float]:
        """The working copy with what lies under `at` changed, and how much of that has something to be changed into."""
        grey, valid = self.prepared.grey, self.prepared.valid
        if fill == "inpaint":
            return fills.inpaint(grey, valid, at, rng), 1.0
        if fill == "blur":
            return fills.blur(grey, valid, at), 1.0
        if fill == "mean":
            return fills.mean(grey, valid, at), 1.0
        return fills.mirror(grey, valid, at, line, self.step)

    def shown(self, mask: _Mask) -> float:
        """Share of the mask that the network is shown."""
        transform, valid = self.prepared.input.transform, self.prepared.input.valid
        at = (np.argwhere(mask) + 0.5) * self.step
        row = np.floor((at[:, 0] - transform.origin_row) / transform.scale_row).astype(int)
        column = np.floor((at[:, 1] - transform.origin_column) / transform.scale_column).astype(int)
        inside = (row >= 0) & (row < valid.shape[0]) & (column >= 0) & (column < valid.shape[1])
        inside[inside] = valid[row[inside], column[inside]]
        return float(inside.mean())

    def params(self, fill: Fill, mask: _Mask) -> dict[str, float | int]:
        """What determines the fill, lengths in source pixels."""
        unit = float(np.sqrt(self.step[0] * self.step[1]))
        if fill == "blur":
            return {"sigma_pixels": max(1.0, fills.BLUR * fills.radius(mask)) * unit}
        if fill in ("inpaint", "mean"):
            return {"surroundings_pixels": max(3, round(fills.RING * fills.radius(mask))) * unit}
        return {}

    def patch(self, region: Region, picture: npt.NDArray[np.float32]) -> Patch:
        """The changed region in source pixels and pixel values: the working copy's change, bilinear."""
        r = self.radiograph
        full = regions.mask(region, (r.rows, r.columns))
        if r.padding is not None:
            full &= ~r.padding
        if not full.any():
            empty = np.zeros((0, 0), r.pixels.dtype)
            return Patch(0, 0, empty, np.zeros((0, 0), bool))
        rows, columns = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
        box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        y = (np.arange(box[0].start, box[0].stop) + 0.5) / self.step[0] - 0.5
        x = (np.arange(box[1].start, box[1].stop) + 0.5) / self.step[1] - 0.5
        grey = ndimage.map_coordinates(picture, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")
        values = self._values(grey)
        original = r.pixels[box]
        if original.dtype.kind in "iu":
            kind = np.iinfo(original.dtype.name)
            values = np.rint(values).clip(kind.min, kind.max)
        inside = full[box]
        out = np.where(inside, values.astype(original.dtype), original)
        for array in (out, inside):
            array.flags.writeable = False
        return Patch(box[0].start, box[1].start, out, inside)

    def _values(self, grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Pixel values that preprocessing takes for these greys: its table, read backwards."""
        known, valid = preprocess.upright_grey(self.radiograph)
        values = self.radiograph.pixels[valid].astype(np.float64)
        greys = known[valid]
        thin = max(1, greys.size // 200_000)
        greys, values = greys[::thin], values[::thin]
        inner = (greys > 0.0) & (greys < 1.0)
        table, first = np.unique(greys[inner], return_index=True)
        if not table.size:
            return np.full(grey.shape, float(values.mean()) if values.size else 0.0)
        return np.interp(grey, table, values[inner][first])

    def places(self, mask: _Mask, count: int, run: Run, line: Midline | None) -> tuple[list[_Mask], str]:
        """Masks of the same shape at random places of the lungs that (almost) leave the region alone, and a remark.

        line: where the content comes from the mirror side; then that side must leave the region alone, too.
        """
        lungs, remark = self._lungs()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        figure = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
        if count <= 0 or figure.shape[0] > self.shape[0] or figure.shape[1] > self.shape[1]:
            return [], remark
        area = float(figure.sum())

        def share(of: _Mask) -> npt.NDArray[np.float32]:
            """For every upper left corner: how much of the figure placed there lies in `of`."""
            found = signal.fftconvolve(of.astype(np.float32), figure[::-1, ::-1], mode="valid")
            return np.asarray(found / area)

        inside, free = share(lungs), share(mask) <= OVERLAP + 1e-4
        corners = np.empty((0, 2), np.int64)
        for least in INSIDE:
            corners = np.argwhere(free & (inside >= least - 1e-4))
            if len(corners) >= 4 * count:
                break
        order = run.rng(1_000_000).permutation(len(corners))
        found = list(self._take(corners[order], figure > 0, mask, count, line))
        if len(found) < count:
            remark = (
                f"{remark} Only {len(found)} other places in the lungs hold a region of this size.".strip()
            )
        return found, remark

    def _take(
        self, corners: npt.NDArray[np.int64], figure: _Mask, mask: _Mask, count: int, line: Midline | None
    ) -> Iterator[_Mask]:
        taken = 0
        for row, column in corners[: 50 * count]:
            if taken == count:
                return
            place = np.zeros(self.shape, bool)
            place[row : row + figure.shape[0], column : column + figure.shape[1]] = figure
            if line is not None:
                at = np.floor(line.reflect((np.argwhere(place) + 0.5) * self.step) / self.step).astype(int)
                ok = ((at >= 0) & (at < self.shape)).all(axis=1)
                if mask[tuple(at[ok].T)].mean() > OVERLAP or not ok.any():
                    continue
            taken += 1
            yield place

    def _lungs(self) -> tuple[_Mask, str]:
        lungs = self.prepared.lungs
        if lungs is None or lungs.box is None:
            return self.prepared.valid, "No lung fields: the random regions lie anywhere in the image."
        r = self.radiograph
        grid = GridTransform(0.0, 0.0, *self.step, self.shape, (r.rows, r.columns))
        return lungs.in_grid(grid) > 0.5, ""
