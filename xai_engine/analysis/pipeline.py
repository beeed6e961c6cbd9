"""The whole job for one image: verdict, maps, region statistics, and the folder of results.

The command line and the engine worker both call this, so a number in the window and the number in the files
come from one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xai_engine.errors import Cancelled, RefusedImage, UnsupportedModel, UsageError
from xai_engine.evidence import record
from xai_engine.evidence.case import CaseReview, now
from xai_engine.radiograph import colour, display, mirror, regions
from xai_engine.runtime import atomic, device

if TYPE_CHECKING:
    from xai_engine.assess.options import CardOptions
    from xai_engine.assess.types import ReliabilityCard
    from xai_engine.classifier.predict import Classifier
    from xai_engine.classifier.types import Prediction
    from xai_engine.explain.registry import Method
    from xai_engine.explain.types import Explanation
    from xai_engine.explain.what_if import Fill, WhatIf
    from xai_engine.radiograph.mirror import Midline, Mirror
    from xai_engine.radiograph.regions import Region, RegionStatistics
    from xai_engine.radiograph.types import Radiograph
    from xai_engine.runtime.run import Run

REPORT = "report.pdf"


def analyze(
    radiograph: Radiograph,
    classifier: Classifier,
    methods: Sequence[Method],
    target: str | None,
    seed: int,
    roi: Sequence[Region],
    run: Run,
    *,
    prediction: Prediction | None = None,
    options: Mapping[str, str] | None = None,
    cards: CardOptions | None = None,
    what_if: Fill | None = "inpaint",
    shared_with: Sequence[tuple[tuple[str, Mapping[str, Any]], ...]] | None = None,
) -> CaseReview:
    """Predict, explain with each method in turn, assess the maps, measure the regions.

    target: class name; None for the finding that the model looks for (its last class), whatever the verdict,
        so that maps of different patients answer the same question. prediction: when it is known already
        (batches).
    options: command-line options to record, see CaseReview. cards: how to assess how far each map can be trusted
        (`assess.options.preset`); None leaves it out.
    shared_with: per method, which pool of forwards it draws from (Explanation.shared_with; () for none), as maps of an earlier
        analysis did; None: those that can share with each other do.
    what_if: how each region is changed to see what the score does; None leaves it out.
    An image that the model may not read gets a case with the refusal and without maps.
    A method that cannot explain this architecture is left out and named in `skipped`, unless no other gave a map.
    Raises UsageError (unknown target), UnsupportedModel, Cancelled: a case is whole or does not exist.
    """
    target = target or classifier.info.classes[-1]
    classifier.target_index(target)
    if prediction is None:
        prediction = classifier.predict([radiograph], run.part(0.0, 0.1))[0]
    explanations: list[Explanation] = []
    skipped: dict[str, str] = {}
    found: tuple[ReliabilityCard, ...] = ()
    share_of_maps = 0.85 if cards is None else 0.25
    if prediction.readable:
        from xai_engine.explain import running
        from xai_engine.explain.pool import Pool

        model_input = classifier.prepare(radiograph) if methods else None
        if shared_with is None:
            pools = [Pool.of(methods)] * len(methods)
        else:
            known = {repr(asked): Pool.again(asked) for asked in shared_with}
            pools = [known[repr(asked)] for asked in shared_with]
        for index, method in enumerate(methods):
            assert model_input is not None
            share = share_of_maps / len(methods)
            part = run.part(0.1 + share * index, 0.1 + share * (index + 1), f"{method.title}: ")
            part.seed = seed
            try:
                shared = pools[index]
                explanations.append(running.explain(method, classifier, model_input, target, part, shared))
            except UnsupportedModel as error:
                skipped[method.name] = str(error)
                if len(skipped) == len({m.name for m in methods}):
                    raise
            if run.cancelled:
                raise Cancelled("cancelled")
        if cards is not None and explanations:
            part = run.part(0.1 + share_of_maps, 0.95, "reliability: ")
            part.seed = seed
            found = assess(radiograph, classifier, explanations, cards, part)
            if run.cancelled:
                raise Cancelled("cancelled")
    case = CaseReview(
        radiograph=radiograph,
        voi=display.select(radiograph, "default"),
        prediction=prediction,
        explanations=tuple(explanations),
        styles={},
        regions=tuple(roi),
        statistics={},
        environment=device.environment(classifier.policy),
        created=now(),
        voi_key="0" if radiograph.voi else "auto",
        seed=seed,
        options=dict(options or {}),
        skipped=skipped,
    )
    if found:
        trust = {name: card.to_json() for name, card in zip(case.names(), found, strict=True)}
        case = replace(case, reliability=trust)
    if roi:
        run.check(0.95, "measuring")
        named = dict(zip(case.names(), explanations, strict=True))
        line = classifier.midline(radiograph)
        statistics, mirrors = measure(radiograph, roi, named), mirror_regions(radiograph, roi, line, named)
        case = replace(case, statistics=statistics, mirrors=mirrors)
    if roi and prediction.readable and what_if is not None:
        asked = ask_all(radiograph, classifier, roi, what_if, line, seed, run.part(0.96, 1.0, "what if: "))
        case = replace(case, what_if=asked)
    run.check(1.0, "analysed")
    return case


def assess(
    radiograph: Radiograph,
    classifier: Classifier,
    explanations: Sequence[Explanation],
    options: CardOptions,
    run: Run,
) -> tuple[ReliabilityCard, ...]:
    """How far each map (in the classifier's grid, of one target) can be trusted; see assess.card.assess.

    Raises RefusedImage, UsageError. A cancelled run gives partial cards.
    """
    from xai_engine.assess import card

    prepared = classifier.prepared([radiograph])[0]
    if prepared.refusal:
        raise RefusedImage(f"{radiograph.path}: {prepared.refusal}")
    lungs = None if prepared.lungs is None else prepared.lungs.in_grid(prepared.input.transform)
    return card.assess(classifier, prepared.input, explanations, lungs, options, run)


def measure(
    radiograph: Radiograph, roi: Sequence[Region], explanations: Mapping[str, Explanation]
) -> dict[str, RegionStatistics]:
    """Statistics of every region, by region id, with the share of each map (by its name in the case)."""
    maps = {name: explanation.in_source() for name, explanation in explanations.items()}
    totals = {name: regions.map_totals(values) for name, values in maps.items()}
    ids = record.region_ids(tuple(roi))
    return {
        key: regions.measure(radiograph, region, maps, totals=totals)
        for key, region in zip(ids, roi, strict=True)
    }


def mirror_regions(
    radiograph: Radiograph, roi: Sequence[Region], line: Midline, explanations: Mapping[str, Explanation]
) -> dict[str, Mirror]:
    """Every region's counterpart and what is in it, by region id; as `measure` does for the regions themselves. A line has none."""
    maps = {name: explanation.in_source() for name, explanation in explanations.items()}
    totals = {name: regions.map_totals(values) for name, values in maps.items()}
    return {
        key: mirror.compare(radiograph, region, line, maps, totals=totals)
        for key, region in zip(record.region_ids(tuple(roi)), roi, strict=True)
        if region.kind != "line"
    }


def ask_all(
    radiograph: Radiograph,
    classifier: Classifier,
    roi: Sequence[Region],
    fill: Fill,
    line: Midline,
    seed: int,
    run: Run,
) -> dict[str, WhatIf]:
    """What if each region looked otherwise, by region id; without those that the classifier is not shown or that have
    no surroundings, and without lines. Raises Cancelled."""
    from xai_engine.explain.compute.what_if import ask

    found: dict[str, WhatIf] = {}
    for index, (key, region) in enumerate(zip(record.region_ids(tuple(roi)), roi, strict=True)):
        part = run.part(index / len(roi), (index + 1) / len(roi))
        part.seed = seed
        with suppress(
            UsageError
        ):  # nothing of it in the picture: there is nothing to state, and the case stands
            found[key] = ask(classifier, radiograph, region, fill, part, line=line)
        if run.cancelled:
            raise Cancelled("cancelled")
    return found


def write(case: CaseReview, folder: Path | str, report: bool = False, page: str = "A4") -> Path:
    """Write `analysis.json`, `<map>.npy`, `<map>.png`, `regions.json` where there are regions and, if wanted,
    `report.pdf` to `folder`, whole or not at all.

    `<map>.npy`: float32, signed, (rows, columns) of the image; `<map>.png`: RGB, the overlay as the window
    shows it. An earlier result in `folder` is replaced; a folder that holds anything else is left alone.
    Returns the folder. Raises OutputError.
    """
    from PIL import Image

    folder = Path(folder)
    files = record.file_names(case)
    if case.regions:  # the command that repeats the analysis reads them from here
        case = replace(case, options={**case.options, "roi": str(folder / record.REGIONS)})
    with atomic.folder(folder, marker=record.FILE_NAME) as work:
        if case.regions:
            (work / record.REGIONS).write_text(regions.dump(case.regions), encoding="utf-8")
        grey = display.picture(case.radiograph, case.voi, case.invert)
        for name, explanation in zip(case.names(), case.explanations, strict=True):
            values = explanation.in_source()
            np.save(work / files[name].map, values, allow_pickle=False)
            overlay = colour.blend(grey, values, case.style(name), explanation.full_scale)
            Image.fromarray(overlay).save(work / files[name].overlay, format="PNG", compress_level=4)
        (work / record.FILE_NAME).write_text(record.dumps(record.to_json(case, files)), encoding="utf-8")
        if report:
            from xai_engine.evidence import report as pdf

            pdf.write(case, work / REPORT, page)
    return folder


def folder_names(paths: Sequence[Path]) -> list[str]:
    """One output folder name per image: its stem; `stem-2`, `stem-3`, … where images share one.

    Compared without regard to case, as some file systems do. A stem of dots alone would be another folder: that is `image`.
    """
    taken: set[str] = set()
    out = []
    for path in paths:
        stem = path.stem if path.stem.strip(".") else "image"
        name, count = stem, 1
        while name.casefold() in taken:
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.casefold())
        out.append(name)
    return out
