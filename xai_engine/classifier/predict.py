"""The classifier in use: prepares a radiograph, scores batches for explanations, predicts with calibration and gate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xai_engine.classifier import gate, preprocess, stated
from xai_engine.classifier.calibration import Calibration
from xai_engine.classifier.gate import GateNetwork, GateSpec, Impression
from xai_engine.classifier.lungs import LungFields, LungFinder
from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.classifier.types import ModelInfo, ModelInput, Prediction
from xai_engine.errors import ModelError, UsageError
from xai_engine.radiograph import correct, mirror
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.mirror import Midline
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime import device as devices
from xai_engine.runtime.device import DevicePolicy
from xai_engine.runtime.run import Run

# Small changes that leave a radiograph's finding alone: zoom, shift (rows, columns; share of the side), gamma.
PERTURBATIONS = (
    (0.97, 0.0, 0.0, 1.0),
    (1.03, 0.0, 0.0, 1.0),
    (1.0, 0.015, 0.0, 1.0),
    (1.0, -0.015, 0.0, 1.0),
    (1.0, 0.0, 0.015, 1.0),
    (1.0, 0.0, -0.015, 1.0),
    (1.0, 0.0, 0.0, 0.87),
    (1.0, 0.0, 0.0, 1.15),
)
_Grey = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], float]
CACHE = 16  # prepared images kept per process
# views of one pass on the processor; those of one image fill whole passes, so company changes no bit
AT_ONCE = 3


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One radiograph made ready: upright grey, lungs, network input, the gate's sentence ("" = readable) and what the
    gate's network saw."""

    grey: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    aspect: float
    lungs: LungFields | None
    input: ModelInput
    refusal: str
    look: Impression | None = None


class Classifier:
    """A loaded bundle on a device. The network stays in eval mode and its weights never change.

    A one-logit head scores its last class; `scores` of the other class are the negative. A head with several outputs
    scores a class by its log-odds against the rest, z_c - log(sum of exp of the others).
    """

    def __init__(
        self,
        info: ModelInfo,
        network: nn.Module,
        finder: LungFinder | None,
        gate_network: GateNetwork | None,
        preprocessing: PreprocessSpec,
        calibration: Calibration,
        gate_limits: Mapping[str, float],
        policy: DevicePolicy | None = None,
    ) -> None:
        self.policy = policy or DevicePolicy("cpu", "fp32", torch.get_num_threads())
        devices.apply(self.policy)
        self.info = info
        self.device: Literal["cpu", "cuda"] = self.policy.device
        self.precision: Literal["fp32", "bf16"] = self.policy.precision
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        for p in self.network.parameters():  # one by one: a scripted module knows no requires_grad_
            p.requires_grad_(False)
        if finder is not None:
            finder.network.to(self.device).requires_grad_(False)
        if gate_network is not None:
            gate_network.network.to(self.device).requires_grad_(False)
        self.finder = finder
        self.gate_network = gate_network
        self.preprocessing = preprocessing
        self.calibration = calibration
        self.gate = GateSpec(**gate_limits)
        self.batch_size = 32
        # of the weights that the bundle's validation was measured with; None without a bundle
        self.weights_on_record: str | None = None
        self.notices: list[str] = []  # what was done because memory ran out, in sentences
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()

    # ---- input -------------------------------------------------------------------------------------------------

    def prepare(self, radiograph: Radiograph) -> ModelInput:
        """What the network is shown of this radiograph."""
        return self.prepared([radiograph])[0].input

    def lungs(self, radiograph: Radiograph) -> LungFields | None:
        """Lung fields of this radiograph; None when the bundle has no lung model."""
        return self.prepared([radiograph])[0].lungs

    def prepared(self, radiographs: Sequence[Radiograph], run: Run | None = None) -> list[Prepared]:
        """Prepare several images, the lung model in one batch. The last few are remembered by file hash. Raises Cancelled."""
        run = run or Run()
        missing = {r.sha256: r for r in radiographs if r.sha256 not in self._prepared}
        greys = [(*preprocess.upright_grey(r), preprocess.pixel_aspect(r)) for r in missing.values()]
        told = [stated.against(r) if self.gate_network else "" for r in missing.values()]
        run.check(0.1, "finding the lungs")
        fields: Sequence[LungFields | None] = self.finder.find(greys) if self.finder else [None] * len(greys)
        looks: Sequence[Impression | None] = [None] * len(greys)
        if self.gate_network:
            run.check(0.7, "looking whether it is a chest radiograph")
            looks = self.gate_network.look(greys)
        fresh: dict[str, Prepared] = {}
        for sha, (grey, valid, aspect), lungs, look, other in zip(
            missing, greys, fields, looks, told, strict=True
        ):
            refusal = gate.judge(grey, valid, lungs, self.gate, look)
            if refusal and self.gate_network is not None:
                lungs, look, refusal = self._unbordered((grey, valid, aspect), lungs, look, refusal)
            if not refusal and other:  # nothing that could be put right in the image
                look, refusal = None, other
            fresh[sha] = self._prepare(sha, grey, valid, aspect, lungs, look, refusal)
        out = [fresh[r.sha256] if r.sha256 in fresh else self._prepared[r.sha256] for r in radiographs]
        for sha, item in fresh.items():
            self._prepared[sha] = item
        while len(self._prepared) > CACHE:
            self._prepared.popitem(last=False)
        return out

    def _unbordered(
        self, image: _Grey, lungs: LungFields | None, look: Impression | None, refusal: str
    ) -> tuple[LungFields | None, Impression | None, str]:
        """A second look at a refused image without its even borders, which make the chest too small to be known.

        Returns what was found there if the gate lets that pass, else what it was given.
        """
        grey, valid, aspect = image
        part = preprocess.content(grey, valid)
        if part is None or self.finder is None or self.gate_network is None:
            return lungs, look, refusal
        inner = (np.ascontiguousarray(grey[part]), np.ascontiguousarray(valid[part]), aspect)
        (found,), (seen,) = self.finder.find([inner]), self.gate_network.look([inner])
        if gate.judge(inner[0], inner[1], found, self.gate, seen):
            return lungs, look, refusal
        return found.placed(part[0].start, part[1].start, (grey.shape[0], grey.shape[1])), seen, ""

    def _prepare(
        self,
        sha: str,
        grey: npt.NDArray[np.float32],
        valid: npt.NDArray[np.bool_],
        aspect: float,
        lungs: LungFields | None,
        look: Impression | None,
        refusal: str,
    ) -> Prepared:
        shape = (grey.shape[0], grey.shape[1])
        if lungs is not None and lungs.box is not None:
            spec = self.preprocessing
            transform = preprocess.square_around(lungs.box, spec.margin, spec.size, shape, aspect)
        else:
            transform = preprocess.letterbox(shape, self.preprocessing.size, aspect)
        # a small working copy: no more than four times finer than the grid
        factor = int(min(transform.scale_row, transform.scale_column) / 2)
        if factor > 1:
            small = (max(1, shape[1] // factor), max(1, shape[0] // factor))
            grey_small = cv2.resize(grey, small, interpolation=cv2.INTER_AREA)
            valid_small = cv2.resize(valid.astype(np.uint8), small, interpolation=cv2.INTER_NEAREST).astype(
                bool
            )
        else:
            grey_small, valid_small = grey, valid
        array, inside = self._view(grey_small, valid_small, lungs, transform)
        array.setflags(write=False)
        inside.setflags(write=False)
        shown = ModelInput(array, inside, transform, sha)
        return Prepared(grey_small, valid_small, aspect, lungs, shown, refusal, look)

    def _view(
        self,
        grey: npt.NDArray[np.float32],
        valid: npt.NDArray[np.bool_],
        lungs: LungFields | None,
        transform: GridTransform,
        gamma: float = 1.0,
        like: npt.NDArray[np.float32] | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Network input (channels, size, size) and validity; `grey` may be a reduced copy of the source image.

        like: the image whose grey scale is used, of the same shape; `grey` itself when None.
        """
        row_factor = transform.source_shape[0] / grey.shape[0]
        column_factor = transform.source_shape[1] / grey.shape[1]
        here = replace(
            transform,
            origin_row=transform.origin_row / row_factor,
            origin_column=transform.origin_column / column_factor,
            scale_row=transform.scale_row / row_factor,
            scale_column=transform.scale_column / column_factor,
            source_shape=(grey.shape[0], grey.shape[1]),
        )
        image, inside = preprocess.sample(grey, valid, here)
        if gamma != 1.0:
            image = np.power(image, np.float32(gamma))
        reach = self.preprocessing.reach
        if reach is not None and lungs is not None and lungs.box is not None:
            inside &= preprocess.chest_field(lungs.in_grid(transform), reach)
        scale = None if like is None else preprocess.sample(like, valid, here)[0]
        plane = preprocess.standardise(image, inside, self.preprocessing, scale)
        return np.repeat(plane[None], self.info.input_shape[0], axis=0), inside

    def changed(self, prepared: Prepared, grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Network input (channels, size, size) of a changed copy of `prepared.grey`.

        Lungs, crop, chest field and grey scale stay those of the original, so every pixel that was not changed looks to
        the network exactly as before.
        """
        frame = prepared.input.transform
        return self._view(grey, prepared.valid, prepared.lungs, frame, like=prepared.grey)[0]

    def midline(self, radiograph: Radiograph) -> Midline:
        """Where the chest is mirrored: midway between the lungs, else in the middle of the image."""
        shape, aspect = (radiograph.rows, radiograph.columns), preprocess.pixel_aspect(radiograph)
        lungs = self.lungs(radiograph)
        if lungs is None:
            return mirror.of_image(
                shape, aspect, "This model finds no lungs: mirrored at the middle of the image."
            )
        return mirror.of_lungs(lungs.mask, lungs.transform, aspect)

    def tensor(self, model_input: ModelInput) -> torch.Tensor:
        """(1, channels, rows, columns) float32 on the device, a copy."""
        return torch.tensor(model_input.array)[None].to(self.device)

    # ---- scores ------------------------------------------------------------------------------------------------

    def target_index(self, target: str) -> int:
        """Index of a class name. Raises UsageError naming the known classes."""
        try:
            return self.info.classes.index(target)
        except ValueError:
            raise UsageError(f"target {target!r}: this model knows {', '.join(self.info.classes)}") from None

    def score_of(self, outputs: torch.Tensor, target: str) -> torch.Tensor:
        """(n, outputs of the head) -> (n,) score of `target`, see the class."""
        index = self.target_index(target)
        if outputs.shape[1] == 1:
            return outputs[:, 0] if index == len(self.info.classes) - 1 else -outputs[:, 0]
        others = torch.cat([outputs[:, :index], outputs[:, index + 1 :]], dim=1)
        return outputs[:, index] - torch.logsumexp(others, dim=1)

    def scores(self, batch: torch.Tensor, target: str, precision: str | None = None) -> torch.Tensor:
        """Scores (n,) float32 without gradients, in batches, channels-last.

        batch: (n, channels, rows, columns). precision: "fp32" or "bf16"; the policy's when None. When the GPU runs out
        of memory the batch is halved, down to one image, then the processor takes over: see `notices`.
        """
        reduced = (precision or self.precision) == "bf16"
        out: list[torch.Tensor] = []
        start = 0
        while start < len(batch):
            part = batch[start : start + self.batch_size]
            try:
                with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=reduced):
                    placed = part.to(self.device, memory_format=torch.channels_last)
                    out.append(self.score_of(self.network(placed).float(), target))
            except torch.cuda.OutOfMemoryError:
                self.out_of_memory()
                continue
            start += len(part)
        return torch.cat([o.to(self.device) for o in out]) if out else torch.empty(0, device=self.device)

    def out_of_memory(self) -> None:
        """Halve the batch; at one image move to the processor. Raises ModelError where there is nothing left to give up."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.batch_size > 1:
            self.batch_size //= 2
            self.notices.append(f"The GPU ran out of memory: {self.batch_size} images at a time.")
            return
        if any("processor" in notice for notice in self.notices):
            raise ModelError(
                f"{self.info.name}: one image does not fit into memory; close other programs and try again"
            )
        self.device = "cpu"
        self.network.to("cpu")
        self.batch_size = 32
        self.notices.append("The GPU has no memory for one image: computed on the processor.")

    def differentiable_scores(self, batch: torch.Tensor, target: str) -> torch.Tensor:
        """Scores (n,) with a graph; fp32 unless the caller has opened an autocast region."""
        placed = batch.to(self.device).contiguous(memory_format=torch.channels_last)
        return self.score_of(self.network(placed).float(), target)

    def layer(self, name: str) -> nn.Module:
        """A module by its dotted name. Raises UsageError naming the layers that Grad-CAM may use."""
        try:
            return self.network.get_submodule(name)
        except AttributeError:
            raise UsageError(f"layer {name!r}: this model has {', '.join(self.info.layers)}") from None

    # ---- verdict -----------------------------------------------------------------------------------------------

    def predict(self, radiographs: Sequence[Radiograph], run: Run | None = None) -> list[Prediction]:
        """One prediction per image, in order. Raises Cancelled.

        The uncertainty is the standard deviation of the calibrated probability over eight small changes of zoom,
        position and exposure (test-time perturbation, Ayhan & Berens 2018).
        """
        run = run or Run()
        out: list[Prediction] = []
        for start in range(0, len(radiographs), 8):
            some = radiographs[start : start + 8]
            told = run.part(start / len(radiographs), (start + len(some)) / len(radiographs))
            told.check(0.0, "reading the images" if len(radiographs) > 1 else "reading the image")
            began = time.perf_counter()
            part = self.prepared(some, told.part(0.0, 0.3))
            views = np.concatenate([self._views(p) for p in part])
            logits = self._view_scores(views, told.part(0.3, 1.0)).reshape(len(part), 1 + len(PERTURBATIONS))
            seconds = (time.perf_counter() - began) / len(part)
            out += [self._verdict(p, row, seconds) for p, row in zip(part, logits, strict=True)]
        run.check(1.0, "classified")
        return out

    def _view_scores(self, views: npt.NDArray[np.float32], run: Run) -> npt.NDArray[np.float32]:
        """(n,) scores of the last class, few views at a time on the processor, where more at once are no faster: so that it
        can be told how far it is, and stopped."""
        at_once = AT_ONCE if self.device == "cpu" else len(views)
        found: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(views), at_once):
            told = "classifying" if start == 0 else "classifying again with small changes: how sure it is"
            run.check(start / len(views), told)
            some = torch.from_numpy(views[start : start + at_once])
            found.append(self.scores(some, self.info.classes[-1], "fp32").cpu().numpy())
        return np.concatenate(found)

    def _views(self, prepared: Prepared) -> npt.NDArray[np.float32]:
        views = [prepared.input.array]
        base, lungs = prepared.input.transform, prepared.lungs
        size = base.grid_shape[0]
        for zoom, down, right, gamma in PERTURBATIONS:
            moved = replace(
                base,
                scale_row=base.scale_row * zoom,
                scale_column=base.scale_column * zoom,
                origin_row=base.origin_row + base.scale_row * size * ((1 - zoom) / 2 + down),
                origin_column=base.origin_column + base.scale_column * size * ((1 - zoom) / 2 + right),
            )
            views.append(self._view(prepared.grey, prepared.valid, lungs, moved, gamma)[0])
        return np.stack(views)

    def _offer(self, prepared: Prepared) -> tuple[str, ...]:
        """Corrections after which the gate would let a refused image pass; () where none helps.

        The network of the gate says which; then the corrected image is judged like any other, and what it still says
        is tried on top, once.
        """
        if self.gate_network is None or self.finder is None or not prepared.refusal:
            return ()
        image = (prepared.grey, prepared.valid, prepared.aspect)
        look = prepared.look
        done: tuple[str, ...] = ()
        for _ in range(2):
            hint = gate.remedy(look) if look is not None else ()
            if not hint:
                return ()
            image, done = _corrected(image, hint), correct.composed((*done, *hint))
            (look,), (lungs,) = self.gate_network.look([image]), self.finder.find([image])
            if not gate.judge(image[0], image[1], lungs, self.gate, look):
                return done
        return ()

    def _verdict(self, prepared: Prepared, logits: npt.NDArray[np.float32], seconds: float) -> Prediction:
        probabilities = self.calibration(logits)
        point = self.info.operating_points[0]
        probability = float(probabilities[0])
        return Prediction(
            label=self.info.classes[-1] if probability >= point.threshold else self.info.classes[0],
            probability=probability,
            logit=float(logits[0]),
            threshold=point.threshold,
            uncertainty=float(probabilities[1:].std()),
            operating_point=point,
            readable=not prepared.refusal,
            refusal=prepared.refusal,
            model=self.info,
            device=self.device,
            precision="fp32",
            seconds=seconds,
            offer=self._offer(prepared),
            prediction_set=self._set(probability),
        )

    def _set(self, probability: float) -> tuple[str, ...] | None:
        if self.info.conformal is None:
            return None
        inside = self.info.conformal.members(probability)
        names = (self.info.classes[0], self.info.classes[-1])
        return tuple(name for name, there in zip(names, inside, strict=True) if there)


def _corrected(image: _Grey, corrections: Sequence[str]) -> _Grey:
    """`radiograph.correct.apply` for an upright grey image with its validity and pixel aspect."""
    grey, valid, aspect = image
    for each in corrections:
        quarter = correct.turns(each)
        if each == "invert":
            grey = np.where(valid, 1.0 - grey, 0.0).astype(np.float32)
        grey, valid = np.rot90(grey, -quarter), np.rot90(valid, -quarter)
        aspect = 1.0 / aspect if quarter % 2 else aspect
    return np.ascontiguousarray(grey), np.ascontiguousarray(valid), aspect


def describe(info: ModelInfo) -> dict[str, Any]:
    """JSON-ready summary for `radiolucent models --json`."""
    from dataclasses import asdict

    return asdict(info)
