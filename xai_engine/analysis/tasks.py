"""Functions that run in worker processes: `Worker.submit("xai_engine.analysis.tasks:predict", Once(r.sha256,
r), …)`.

`read_file` and `export_picture` are for the reader process, the rest for the engine. Loaded models and
prepared images stay in the process. Importing this module loads nothing heavy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from xai_engine.errors import RefusedImage

if TYPE_CHECKING:
    from xai_engine.assess.types import ReliabilityCard
    from xai_engine.classifier.predict import Classifier
    from xai_engine.classifier.types import ModelInfo, ModelInput, Prediction
    from xai_engine.evidence.case import CaseReview
    from xai_engine.explain.pool import Pool
    from xai_engine.explain.types import Explanation
    from xai_engine.explain.what_if import Fill, WhatIf
    from xai_engine.radiograph.mirror import Midline
    from xai_engine.radiograph.regions import Region, RegionStatistics
    from xai_engine.radiograph.types import Radiograph
    from xai_engine.runtime.run import Run

_CLASSIFIERS: OrderedDict[tuple[str, str, str, int], Classifier] = OrderedDict()
_KEPT = 2  # models in memory: the one in use and the one compared with
_POOL: dict[str, Pool] = {}  # the forwards of the maps that were asked for together last


def load_reader(*, run: Run) -> None:
    """Import what reading needs, so that the first image does not wait for it."""
    from importlib import import_module

    for name in ("xai_engine.radiograph.dicom", "xai_engine.radiograph.picture_files", "pydicom.pixels"):
        run.check(0.5, "loading the reader")
        import_module(name)


def read_file(path: str | Path, *, run: Run, max_pixels: int = 400_000_000) -> Radiograph:
    """Read an image. Raises UnreadableImage."""
    from xai_engine.radiograph.read import read

    run.step(0.0, "reading")
    radiograph = read(path, max_pixels=max_pixels)
    run.check(1.0, "read")
    return radiograph


def export_picture(
    radiograph: Radiograph, window: str, path: str | Path, *, run: Run, invert: bool = False
) -> None:
    """Write the picture as the window shows it, PNG, source resolution. Raises UsageError, OutputError."""
    from xai_engine.radiograph import display

    display.write_picture(radiograph, display.select(radiograph, window), Path(path), invert)


class Options(TypedDict, total=False):
    """Which model, and what it runs on: the keywords of every task that needs one. Defaults as in `classifier`."""

    model: str | Path | None
    device: str
    precision: str
    threads: int


def classifier(
    model: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    run: Run | None = None,
) -> Classifier:
    """The loaded model, kept in this process. run: told of the loading, where it has to be. Raises ModelError, UsageError."""
    from xai_engine.classifier import bundle
    from xai_engine.runtime import device as devices

    folder = bundle.find(model)
    key = (str(folder), device, precision, threads)
    if key not in _CLASSIFIERS:
        policy = devices.choose(device, precision, threads=threads)
        _CLASSIFIERS[key] = bundle.load(folder, policy, run)
        while len(_CLASSIFIERS) > _KEPT:
            _CLASSIFIERS.popitem(last=False)
    _CLASSIFIERS.move_to_end(key)
    devices.apply(_CLASSIFIERS[key].policy)  # threads are the process's, not the model's
    return _CLASSIFIERS[key]


def _shown(radiograph: Radiograph, options: Options) -> tuple[Classifier, ModelInput]:
    """The model, and what it is shown of the image. Raises RefusedImage, ModelError."""
    loaded = classifier(**options)
    prepared = loaded.prepared([radiograph])[0]
    if prepared.refusal:
        raise RefusedImage(f"{radiograph.path}: {prepared.refusal}")
    return loaded, prepared.input


def warm_up(*, run: Run, **options: Unpack[Options]) -> tuple[ModelInfo, dict[str, Any], dict[str, str]]:
    """Load the model and run it once, so that the first image does not wait for it.

    Returns its card, the environment of `runtime.device.environment`, and the methods that cannot explain it, by name, with
    the reason. Raises ModelError.
    """
    from xai_engine.runtime import device as devices

    run.step(0.05, "loading the engine")
    import torch

    from xai_engine.explain import registry

    loaded = classifier(**options, run=run.part(0.3, 0.8))
    run.check(0.8, "trying the model")
    loaded.scores(torch.zeros(1, *loaded.info.input_shape), loaded.info.classes[-1])
    run.step(1.0, "ready")
    return loaded.info, devices.environment(loaded.policy), registry.unsuited(loaded)


def predict(radiograph: Radiograph, *, run: Run, **options: Unpack[Options]) -> Prediction:
    """The verdict on one image; `readable` False where the gate refuses it. Raises ModelError, Cancelled."""
    run.step(0.0, "reading the image")
    loaded = classifier(**options, run=run.part(0.0, 0.1))
    return loaded.predict([radiograph], run.part(0.1, 1.0))[0]


def prepare(radiograph: Radiograph, *, run: Run, **options: Unpack[Options]) -> ModelInput:
    """What the network is shown of the image."""
    run.step(0.0, "preparing")
    return classifier(**options).prepare(radiograph)


def explain(
    radiograph: Radiograph,
    method: str,
    params: Mapping[str, Any],
    target: str | None = None,
    seed: int = 0,
    beside: Sequence[tuple[str, Mapping[str, Any]]] = (),
    *,
    run: Run,
    **options: Unpack[Options],
) -> Explanation:
    """One map. A run that is cancelled gives what there is, marked partial.

    beside: methods that are asked for together, this one among them: those that can share forwards do (explain.pool). In
    which order, and whether this process made the maps before, changes no map: what is not there is made.
    Raises UsageError, RefusedImage for an image that the model may not read, ModelError, UnsupportedModel.
    """
    from xai_engine.explain import registry, running

    chosen = registry.create(method, **params)
    run.step(0.0, "preparing")
    loaded, shown = _shown(radiograph, options)
    run.seed = seed
    target = target or loaded.info.classes[-1]
    pool = _pool(beside, (radiograph.sha256, target, seed, options))
    return running.explain(chosen, loaded, shown, target, run, pool)


def _pool(beside: Sequence[tuple[str, Mapping[str, Any]]], of: tuple[Any, ...]) -> Pool | None:
    """The forwards that these methods share, kept until others are asked for. of: image, target, seed and model."""
    from xai_engine.explain.pool import Pool

    if not beside:
        return None
    key = repr((beside, of))
    if key not in _POOL:
        _POOL.clear()
        _POOL[key] = Pool.again(beside)
    return _POOL[key]


def channels(
    radiograph: Radiograph,
    layer: str = "",
    count: int = 12,
    target: str | None = None,
    *,
    run: Run,
    **options: Unpack[Options],
) -> tuple[Explanation, ...]:
    """The channels of a layer that move the score most: see compute.channels.strongest_channels. Raises as it does, and
    RefusedImage, ModelError."""
    from xai_engine.explain.compute.channels import strongest_channels

    run.step(0.0, "preparing")
    loaded, shown = _shown(radiograph, options)
    return strongest_channels(loaded, shown, target or loaded.info.classes[-1], layer, count, run)


def assess(
    radiograph: Radiograph,
    explanations: Sequence[Explanation],
    cards: str = "standard",
    seed: int = 0,
    *,
    run: Run,
    **options: Unpack[Options],
) -> tuple[ReliabilityCard, ...]:
    """How far each map can be trusted, in order. explanations: as `explain` gave them, of one target. cards: quick,
    standard or audit. A run that is cancelled gives what there is, marked partial.

    Raises UsageError, RefusedImage, ModelError.
    """
    from xai_engine.analysis import pipeline
    from xai_engine.assess.options import preset

    chosen = preset(cards)
    run.step(0.0, "preparing")
    run.seed = seed
    return pipeline.assess(radiograph, classifier(**options), explanations, chosen, run)


def midline(radiograph: Radiograph, *, run: Run, **options: Unpack[Options]) -> Midline:
    """Where the chest is mirrored. Raises ModelError."""
    run.step(0.0, "finding the mid-line")
    return classifier(**options).midline(radiograph)


def what_if(
    radiograph: Radiograph,
    region: Region,
    fill: Fill,
    samples: int = 20,
    seed: int = 0,
    *,
    run: Run,
    **options: Unpack[Options],
) -> WhatIf:
    """The score with `region` changed, and with random regions changed the same way; see explain.compute.what_if.

    Raises UsageError, RefusedImage, ModelError, Cancelled; cancelled late it gives what there is, marked partial.
    """
    run.step(0.0, "preparing")
    loaded = classifier(**options)
    from xai_engine.explain.compute.what_if import ask

    run.seed = seed
    return ask(loaded, radiograph, region, fill, run, samples=samples)


def measure(
    radiograph: Radiograph, roi: Sequence[Region], explanations: Mapping[str, Explanation], *, run: Run
) -> dict[str, RegionStatistics]:
    """Statistics of every region, by region id."""
    from xai_engine.analysis import pipeline

    run.step(0.0, "measuring")
    return pipeline.measure(radiograph, roi, explanations)


def analyze(
    radiograph: Radiograph,
    methods: Sequence[tuple[str, Mapping[str, Any]]],
    target: str | None = None,
    seed: int = 0,
    roi: Sequence[Region] = (),
    cards: str = "none",
    *,
    run: Run,
    **options: Unpack[Options],
) -> CaseReview:
    """The whole job for one image: see `pipeline.analyze`. methods: (name, parameters); cards: none, quick, …"""
    from xai_engine.analysis import pipeline
    from xai_engine.assess.options import preset
    from xai_engine.explain import registry

    chosen = [registry.create(name, **params) for name, params in methods]
    trust = None if cards == "none" else preset(cards)
    return pipeline.analyze(radiograph, classifier(**options), chosen, target, seed, roi, run, cards=trust)


def recall(
    folder: str | Path, image: str | Path | None = None, *, run: Run, **options: Unpack[Options]
) -> CaseReview:
    """An earlier result from its folder. Raises UsageError, UnreadableImage, ModelError, as `recall.recall`."""
    run.check(0.0, "reading the result")
    from xai_engine.analysis import recall as earlier

    found = earlier.recall(folder, image, options.get("model"))
    run.check(1.0, "read")
    return found


def report(case: CaseReview, path: str | Path, page: str = "A4", *, run: Run) -> str:
    """Write the PDF. Returns its path. Raises UsageError, OutputError."""
    run.step(0.05, "writing the report")
    from xai_engine.evidence import report as pdf

    pdf.write(case, path, page)
    run.step(1.0, "written")
    return str(path)


def write(case: CaseReview, folder: str | Path, report: bool = False, page: str = "A4", *, run: Run) -> str:
    """Write the folder of results as `radiolucent analyze` does. Returns its path. Raises OutputError."""
    from xai_engine.analysis import pipeline

    run.step(0.05, "writing")
    return str(pipeline.write(case, folder, report, page))
