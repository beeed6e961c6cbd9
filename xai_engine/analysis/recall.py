"""An earlier result as a case again, from its folder, the image and the model card: nothing is computed anew but the
statistics of regions. What the folder says must belong to the very image and model that are here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xai_engine.errors import ModelError, RadiolucentError, UsageError
from xai_engine.evidence import record
from xai_engine.evidence.case import CaseReview


def recall(
    folder: Path | str, image: Path | str | None = None, model: Path | str | None = None
) -> CaseReview:
    """The case that `folder` holds.

    image, model: where they are now; as recorded when None. The maps lie in source geometry.
    Raises UsageError (no result there, or of another image), UnreadableImage, ModelError (another model).
    """
    from xai_engine.analysis import pipeline
    from xai_engine.classifier import bundle
    from xai_engine.explain import what_if
    from xai_engine.radiograph import correct, display
    from xai_engine.radiograph.colour import LayerStyle
    from xai_engine.radiograph.mirror import from_json as midline
    from xai_engine.radiograph.read import read
    from xai_engine.radiograph.regions import Region

    saved = record.load(folder)
    data = saved.data
    where = saved.folder / record.FILE_NAME
    try:
        about = [
            str(data[what][key])
            for what, key in (("image", "path"), ("image", "sha256"), ("model", "name"), ("model", "sha256"))
        ]
    except (LookupError, TypeError) as error:
        raise UsageError(f"{where}: is incomplete or was changed; analyse the image again") from error
    radiograph = read(image or about[0])
    if radiograph.sha256 != about[1]:
        raise UsageError(f"{radiograph.path}: is not the image that {where} is about; name it with --image")
    info = bundle.info(bundle.find(model or about[2]))
    if info.sha256 != about[3]:
        raise ModelError(f"{info.name}: is not the model that {where} was made with; name it with --model")
    try:
        radiograph = correct.apply(radiograph, data["image"].get("corrections", ()))
        explanations = tuple(
            _explanation(entry, saved.map(index), data, radiograph.sha256)
            for index, entry in enumerate(data["explanations"])
        )
        voi = data["image"]["voi"]
        shown, key = record.shown_window(radiograph, voi) or (
            display.select(radiograph, "default"),
            "default",
        )
        case = CaseReview(
            radiograph=radiograph,
            voi=shown,
            prediction=_prediction(data["prediction"], info, data["environment"]),
            explanations=explanations,
            styles={},
            regions=tuple(
                Region(roi["kind"], np.asarray(roi["points"], float), roi["name"], roi["id"])
                for roi in data["rois"]
            ),
            statistics={},
            environment=data["environment"],
            created=data["created"],
            voi_key=key,
            invert=voi["inverted"],
            reader=data["reader"]["name"],
            impression=data["reader"]["impression"],
            seed=data["seed"],
            options=data.get("options", {}),
            skipped={entry["method"]: entry["reason"] for entry in data.get("skipped", [])},
        )
        names = case.names()
        styles = {n: LayerStyle(**e["style"]) for n, e in zip(names, data["explanations"], strict=True)}
        trust = {
            n: e["reliability"] for n, e in zip(names, data["explanations"], strict=True) if e["reliability"]
        }
        named = dict(zip(names, explanations, strict=True))
        statistics = pipeline.measure(radiograph, case.regions, named)
        rois = dict(zip(record.region_ids(case.regions), data["rois"], strict=True))
        asked = {
            key: what_if.from_json(
                roi["what_if"], region, radiograph.sha256, info.sha256, data["engine_version"]
            )
            for (key, roi), region in zip(rois.items(), case.regions, strict=True)
            if roi.get("what_if")
        }
        mirrors = {
            key: mirror
            for (key, roi), region in zip(rois.items(), case.regions, strict=True)
            if roi.get("mirror")
            for mirror in pipeline.mirror_regions(
                radiograph, [region], midline(roi["mirror"]["line"]), named
            ).values()
        }
    except RadiolucentError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: is incomplete or was changed; analyse the image again") from error
    from dataclasses import replace

    return replace(
        case, styles=styles, reliability=trust, statistics=statistics, mirrors=mirrors, what_if=asked
    )


def with_pictures(case: CaseReview, model: Path | str | None = None) -> CaseReview:
    """The changed picture of every what-if, which no folder holds, made anew as it was: same fill, seed and mid-line.

    model: where it is now. Loads the model where there is a what-if; a picture whose score is not the recorded one is left
    out. Raises ModelError.
    """
    asked = {key: case.what_if[key] for key in case.what_if if key in case.mirrors}
    if not asked:
        return case
    from dataclasses import replace

    from xai_engine.classifier import bundle
    from xai_engine.explain.compute.what_if import with_picture
    from xai_engine.runtime import device

    classifier = bundle.load(bundle.find(model or case.prediction.model.name), device.choose("cpu", "fp32"))
    pictures = {
        key: with_picture(classifier, case.radiograph, one, case.mirrors[key].line)
        for key, one in asked.items()
    }
    return replace(case, what_if={**case.what_if, **pictures})


def _prediction(saved: dict[str, Any], info: Any, environment: dict[str, Any]) -> Any:
    from xai_engine.classifier.types import OperatingPoint, Prediction

    point = saved["operating_point"]
    return Prediction(
        label=saved["label"] or "",
        probability=float(saved["probability"] or 0.0),  # null where the image was refused; then not shown
        logit=float(saved["logit"] or 0.0),
        threshold=float(saved["threshold"]),
        uncertainty=float(saved["uncertainty"] or 0.0),
        operating_point=OperatingPoint(
            point["name"],
            float(point["threshold"]),
            tuple(point["sensitivity"]),
            tuple(point["specificity"]),
            point["population"],
        ),
        readable=bool(saved["readable"]),
        refusal=saved["refusal"] or "",
        model=info,
        device=environment["device"],
        precision=environment["precision"],
        seconds=float(saved["seconds"]),
        prediction_set=None if saved.get("prediction_set") is None else tuple(saved["prediction_set"]),
    )


def _explanation(saved: dict[str, Any], values: Any, data: Any, sha256: str) -> Any:
    from xai_engine.explain import registry
    from xai_engine.explain.types import Explanation
    from xai_engine.radiograph.geometry import GridTransform

    shape = (int(values.shape[0]), int(values.shape[1]))
    titles = {d.name: d.title for d in registry.describe()}
    return Explanation(
        method=saved["method"],
        title=titles.get(saved["method"], saved["method"]),
        values=values,
        transform=GridTransform(0.0, 0.0, 1.0, 1.0, shape, shape),
        target=saved["target"],
        unit=saved["unit"],
        full_scale=float(saved["full_scale"]),
        params=saved["params"],
        seed=saved["seed"],
        seconds=saved["seconds"],
        forwards=saved["forwards"],
        backwards=saved["backwards"],
        partial=saved["partial"],
        completeness_error=saved["completeness_error"],
        converged=saved["converged"],
        image_sha256=sha256,
        model_sha256=data["model"]["sha256"],
        engine_version=data["engine_version"],
        device=saved["device"],
        precision=saved["precision"],
        notes=tuple(saved["notes"]),
        extra=saved["extra"],
        shared_with=tuple((item["method"], item["params"]) for item in saved.get("shared_with", ())),
    )
