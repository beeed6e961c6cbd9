"""Seconds of each explanation beside the same explanation by other packages, and how the two maps compare.

Peers get the network as their users have it: fp32, in torch's default memory layout, their own batch sizes. Ours runs
as it ships, with the backend and the precision that it picks for this machine, where a row does not say otherwise.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_engine.bench import peers
from xai_engine.bench.contest import Entrant, contest
from xai_engine.bench.figures import Figure, Peer, median
from xai_engine.explain import registry
from xai_engine.explain.compute import lime, rise, shap
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.compute.superpixels import hider
from xai_engine.explain.registry import Method
from xai_engine.explain.running import explain
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

if TYPE_CHECKING:
    from xai_engine.classifier.predict import Classifier
    from xai_engine.classifier.types import ModelInput

SEED = 0
INTERVAL = 0.15  # LIME stops when its confidence intervals are that narrow, of the largest value
RANKS, LARGEST = "rank correlation", "largest difference, share of the maximum"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is computed. quick: a look in a minute or two; the committed page is made with the full sizes."""

    steps: int = 64
    samples: int = 1000
    masks: int = 4000
    seeds: int = 7


QUICK = Sizes(steps=16, samples=200, masks=300, seeds=2)


def measure_shipped(
    model: str | None, image: Path, repeats: int, with_peers: bool, quick: bool = False
) -> list[Figure]:
    """`measure` with an installed bundle on an image file, the seconds of a prediction, and of three maps with cards."""
    from xai_engine.analysis import pipeline
    from xai_engine.assess.options import preset
    from xai_engine.classifier import bundle
    from xai_engine.radiograph import read
    from xai_engine.runtime import device

    classifier = bundle.load(bundle.find(model), device.choose())
    radiograph = read.read(image)
    unseen = (replace(radiograph, sha256=str(n)) for n in count())  # a file that was seen is prepared already
    predict = Entrant("prediction", lambda: classifier.predict([next(unseen)]))
    contest([predict], repeats, _say)
    figures = [_figure("predict", "Prediction with uncertainty, one image", predict)]
    bench = Bench(
        classifier, classifier.prepare(radiograph), repeats, with_peers, QUICK if quick else Sizes()
    )
    figures += bench.all()
    three = [registry.create(n) for n in ("integrated-gradients", "grad-cam", "lime")]
    cards = Entrant(
        "three maps with full cards",
        lambda: pipeline.analyze(
            radiograph, classifier, three, None, SEED, (), Run(), cards=preset("standard")
        ),
        warm=True,  # the first call measures what is remembered per model
    )
    contest([cards], 1, _say)
    title = "Three maps (Integrated Gradients, Grad-CAM, LIME) with full cards"
    return [*figures, _figure("cards", title, cards, 25.0)]


def measure(
    classifier: Classifier, shown: ModelInput, repeats: int, with_peers: bool, sizes: Sizes
) -> list[Figure]:
    """Every row of the table for one prepared image."""
    return Bench(classifier, shown, repeats, with_peers, sizes).all()


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _figure(
    key: str, title: str, ours: Entrant, limit: float | None = None, others: tuple[Peer, ...] = ()
) -> Figure:
    note = ours.error
    if not note and isinstance(ours.result, Explanation):
        e = ours.result
        note = f"{e.forwards} forward passes, {e.backend} {e.precision}"
        if e.backwards:
            note = f"{e.forwards} forward and {e.backwards} backward passes, {e.precision}"
    return Figure(key, title, ours.seconds, "s", limit, samples=tuple(ours.samples), peers=others, note=note)


def at_precision(classifier: Classifier, precision: str) -> Classifier:
    """The same network, held to a precision."""
    other = copy.copy(classifier)
    other.precision = precision  # type: ignore[assignment]
    other.policy = replace(classifier.policy, precision=precision)  # type: ignore[arg-type]
    return other


@dataclass
class Bench:
    """One classifier, one image. Rows that share a peer time it once."""

    classifier: Classifier
    shown: ModelInput
    repeats: int
    with_peers: bool
    sizes: Sizes

    def __post_init__(self) -> None:
        self.target = self.classifier.info.classes[-1]
        self.exact = at_precision(self.classifier, "fp32")
        self.network: nn.Module = copy.deepcopy(self.classifier.network).to(
            memory_format=torch.contiguous_format
        )
        self.x = self.classifier.tensor(self.shown)
        self.index = self.classifier.target_index(self.target) if self._outputs() > 1 else 0
        rows, columns = self.shown.array.shape[1:]
        self.size = f"{rows}×{columns}"

    def _outputs(self) -> int:
        with torch.inference_mode():
            return int(self.network(self.x).shape[1])

    def all(self) -> list[Figure]:
        rows = (self.grad_cam, self.gradients, self.lime, self.shap, self.occlusion, self.rise, self.pool)
        return [figure for row in rows for figure in row()]

    # ---- parts -------------------------------------------------------------------------------------------------

    def score(self, batch: Tensor) -> Tensor:
        """The peers' network: fp32, torch's default layout."""
        return self.classifier.score_of(self.network(batch).float(), self.target)

    def ours(self, name: str, exact: bool = False, **params: Any) -> Callable[[], Explanation]:
        method, model = registry.create(name, **params), self.exact if exact else self.classifier
        return partial(self.explain, method, model)

    def explain(self, method: Method, model: Classifier, seed: int = SEED) -> Explanation:
        return explain(method, model, self.shown, self.target, Run(seed=seed))

    def peer(
        self, needs: str, name: str, work: Callable[[], peers.Map], most: int, warm: bool
    ) -> list[Entrant]:
        return [Entrant(name, work, warm, most)] if self.with_peers and _there(needs) else []

    def compared(
        self,
        others: list[Entrant],
        ours: peers.Map | None,
        wanted: float | None = None,
        *,
        factor: bool = False,
        digits: bool = True,
    ) -> tuple[Peer, ...]:
        out = []
        for other in others:
            agreement = {}
            if not other.error and other.result is not None and ours is not None:
                # outside the field there is nothing to compare: ours are 0 there, theirs answer to padding
                a, b = ours[self.shown.valid], other.result[self.shown.valid]
                agreement[RANKS] = peers.spearman(a, b)
                if digits:
                    agreement[LARGEST] = peers.largest_difference(a, b, factor=factor)
            out.append(Peer(other.name, other.seconds, agreement, other.error, wanted))
        return tuple(out)

    # ---- rows --------------------------------------------------------------------------------------------------

    def grad_cam(self) -> list[Figure]:
        layer = self.classifier.info.default_layer
        module = self.network.get_submodule(layer)

        def plain() -> peers.Map:
            """One forward pass and one backward pass to the layer, in the layout and precision that ours has."""
            kept: list[Tensor] = []

            def keep(_: nn.Module, __: Any, output: Tensor) -> Tensor:
                kept.append(output.detach().requires_grad_(True))
                return kept[0]

            handle = self.classifier.layer(layer).register_forward_hook(keep)
            try:
                with torch.enable_grad():
                    score = self.classifier.differentiable_scores(self.x.clone(), self.target)
                    (gradient,) = torch.autograd.grad(score.sum(), kept)
            finally:
                handle.remove()
            return np.asarray(gradient.numpy())

        ours = Entrant("grad-cam", self.ours("grad-cam"))
        pass_ = Entrant("one forward pass and one backward pass to the layer", plain)
        cells = {relu: self.ours("grad-cam", alignment="cells", relu=relu)().values for relu in (False, True)}
        three = [
            self.peer("captum", "captum LayerGradCam", partial(peers.captum_grad_cam, self.score, module, self.x), 99, True),
            self.peer("monai", "MONAI GradCAM", partial(peers.monai_grad_cam, self.network, layer, self.x, self.index), 99, True),
            self.peer("pytorch_grad_cam", "grad-cam package", partial(peers.pytorch_grad_cam, self.network, module, self.x, self.index), 99, True),
        ]  # fmt: skip
        contest([ours, pass_, *(e for group in three for e in group)], max(5, 3 * self.repeats), _say)
        # theirs lie each cell over its own area, and two of them leave out what speaks against the target
        found = [
            self.compared(group, cells[positive], factor=True)
            for group, positive in zip(three, (False, True, True), strict=True)
        ]
        figure = _figure("grad-cam", f"Grad-CAM, {self.size}", ours, 0.5, tuple(p for g in found for p in g))
        ratio = None if not ours.seconds or not pass_.seconds else ours.seconds / pass_.seconds
        note = (
            pass_.error or f"one forward pass and one backward pass to the layer: {pass_.seconds or 0:.4f} s"
        )
        title = "Grad-CAM, of one forward pass and one backward pass to the layer"
        return [figure, Figure("grad-cam-ratio", title, ratio, "times", 1.2, note=note)]

    def gradients(self) -> list[Figure]:
        steps = self.sizes.steps
        ours = Entrant(
            "integrated-gradients", self.ours("integrated-gradients", steps=steps, max_steps=steps)
        )
        # begins with fewer, for it adds where the sum is off: the map is then as near to the limit as the peer's, see the note
        few = Entrant(
            "integrated-gradients to 1 %",
            self.ours("integrated-gradients", steps=steps * 3 // 4, max_steps=512),
        )
        many = Entrant(
            "integrated-gradients, reference",
            self.ours("integrated-gradients", steps=16 * steps, max_steps=16 * steps),
            warm=False,
        )
        with Session(self.classifier, self.shown, self.target, Run()) as session:
            method = registry.create("integrated-gradients")
            reference = baseline(session, str(method.values()["baseline"]), float(method.values()["blur"]))
        captum = self.peer(
            "captum",
            f"captum IntegratedGradients, {steps} steps",
            partial(peers.captum_integrated_gradients, self.score, self.x, reference, steps),
            2,
            False,
        )
        contest([ours, few, *captum], self.repeats, _say)
        if captum:  # what both approach
            contest([many], 1, _say)
        out = []
        for key, title, entrant in (
            ("integrated-gradients", f"Integrated Gradients, {steps} steps, {self.size}", ours),
            ("integrated-gradients-1", "Integrated Gradients, as many steps as 1 % completeness takes", few),
        ):
            values = entrant.result.values if entrant.result is not None else None
            figure = _figure(key, title, entrant, 5.0, self.compared(captum, values, 4.0))
            if entrant.result is not None and entrant.result.completeness_error is not None:
                error = f"completeness error {100 * entrant.result.completeness_error:.2g} %"
                figure = replace(figure, note=f"{figure.note}, {error}")
            if many.result is not None and captum and captum[0].result is not None:
                away = [self.distance(m, many.result.values) for m in (values, captum[0].result)]
                text = f"distance to the map of {16 * steps} steps {away[0]:.3f} of its norm, captum's {away[1]:.3f}"
                figure = replace(figure, note=f"{figure.note}, {text}")
            out.append(figure)
        return out

    def distance(self, values: peers.Map | None, reference: peers.Map) -> float:
        """Norm of the difference, of the reference's, where the network was shown the image."""
        if values is None:
            return float("nan")
        inside = self.shown.valid
        apart = np.linalg.norm(np.asarray(values, np.float64)[inside] - reference[inside])
        return float(apart / np.linalg.norm(reference[inside]))

    def lime(self) -> list[Figure]:
        samples = self.sizes.samples
        exact = Entrant("lime, fp32", self.ours("lime", exact=True, samples=samples))
        fast = Entrant("lime", self.ours("lime", samples=samples))
        contest([exact, fast], 0, _say)  # the first call gives the superpixels that the peer gets, too
        peer: list[Entrant] = []
        if exact.result is not None and exact.result.segments is not None:
            segments = exact.result.segments
            coins = lime.design(Run(seed=SEED).rng(31), samples, int(segments.max()) + 1)
            work = partial(peers.lime_weights, self.score, self.x, segments, samples, SEED, coins)
            peer = self.peer("lime", "lime package, our superpixels and coins", work, 2, False)
        method, seeds = registry.create("lime", samples=samples, tolerance=INTERVAL), iter(range(1, 1000))
        stop = Entrant("lime, stopping", lambda: self.explain(method, self.classifier, next(seeds)))
        # the peer takes part in every round, so that all three see the same machine
        exact.warm = fast.warm = False
        contest([exact, fast, *peer], self.repeats, _say)
        contest([stop], self.sizes.seeds, _say)
        title = f"LIME, {samples} samples, {self.size}"
        out = []
        for key, about, entrant, wanted, limit in (
            ("lime-fp32", f"{title}, fp32", exact, 3.0, None),
            ("lime", title, fast, 10.0, 20.0),
            ("lime-stop", f"{title} at most, stops at ±{100 * INTERVAL:.0f} % of the largest value", stop, 20.0, None),
        ):  # fmt: skip
            values = entrant.result.values if entrant.result is not None else None
            out.append(_figure(key, about, entrant, limit, self.compared(peer, values, wanted)))
        if exact.result is not None and fast.result is not None:
            ranks = peers.spearman(exact.result.values, fast.result.values)
            out[1] = replace(out[1], note=f"{out[1].note}, rank correlation with fp32 {ranks:.4f}")
        return out

    def shap(self) -> list[Figure]:
        samples = self.sizes.samples
        exact = Entrant(
            "kernel-shap, fp32", self.ours("kernel-shap", exact=True, samples=samples), warm=False
        )
        fast = Entrant("kernel-shap", self.ours("kernel-shap", samples=samples), warm=False)
        with Session(self.exact, self.shown, self.target, Run(seed=SEED)) as session:
            parts = hider(registry.create("kernel-shap"), session)  # type: ignore[arg-type]
        about = (self.score, self.x, parts.behind, parts.labels, samples, SEED)
        drawn = peers.Coalitions()
        theirs = self.peer(
            "shap", "shap KernelExplainer", partial(peers.shap_kernel, *about, drawn=drawn), 2, False
        )
        others = [
            *theirs,
            *self.peer("captum", "captum KernelShap", partial(peers.captum_kernel_shap, *about), 1, False),
        ]
        # after shap, whose coalitions it takes
        same = Entrant("kernel-shap, shap's coalitions", partial(self.of_coalitions, drawn), warm=False)
        contest([exact, fast, *others, *([same] if theirs else [])], self.repeats, _say)
        out = []
        for key, title, entrant, wanted in (
            ("kernel-shap-fp32", f"KernelSHAP, {samples} samples, {self.size}, fp32", exact, 3.0),
            ("kernel-shap", f"KernelSHAP, {samples} samples, {self.size}", fast, 10.0),
        ):
            values = entrant.result.values if entrant.result is not None else None
            out.append(_figure(key, title, entrant, None, self.compared(others, values, wanted)))
        if theirs:
            title = f"KernelSHAP of the {len(drawn.sets)} coalitions that shap drew, {self.size}, fp32"
            found = self.compared(theirs, same.result, 3.0)
            out.append(_figure("kernel-shap-same", title, same, None, found))
        return out

    def of_coalitions(self, drawn: peers.Coalitions) -> peers.Map:
        """KernelSHAP's regression of given sets, scored as its own are."""
        with Session(self.exact, self.shown, self.target, Run(seed=SEED)) as session:
            parts = hider(registry.create("kernel-shap"), session)  # type: ignore[arg-type]
            ends = np.stack([np.zeros(parts.count, bool), np.ones(parts.count, bool)])
            empty, full = session.scores(parts.images(ends)).tolist()
            values = shap.worth(session, drawn.sets, parts)
            return parts.map(shap.solve(drawn.sets, values, empty, full, drawn.weights))

    def occlusion(self) -> list[Figure]:
        method = registry.create("occlusion")
        window, stride = int(method.values()["window"]), int(method.values()["stride"])
        ours = Entrant("occlusion", self.ours("occlusion"))
        valid = torch.from_numpy(self.shown.valid.copy())
        grey = float(self.x[..., valid].mean()) if bool(valid.any()) else 0.0
        others = [
            *self.peer("captum", "captum Occlusion", partial(peers.captum_occlusion, self.score, self.x, grey, window, stride), 2, False),
            *self.peer("monai", "MONAI OcclusionSensitivity", partial(peers.monai_occlusion, self.network, self.x, self.index, window, stride), 2, False),
        ]  # fmt: skip
        contest([ours, *others], self.repeats, _say)
        values = ours.result.values if ours.result is not None else None
        title = f"Occlusion, window {window}, stride {stride}, {self.size}"
        found = self.compared(others, values, 8.0, digits=False)
        return [_figure("occlusion", title, ours, None, found)]

    def rise(self) -> list[Figure]:
        masks = self.sizes.masks
        method = registry.create("rise", masks=masks)
        ours = Entrant("rise", self.ours("rise", masks=masks), warm=False)
        with Session(self.classifier, self.shown, self.target, Run()) as session:
            behind = baseline(session, "blurred", float(method.values()["blur"]))
        run, shape = Run(seed=SEED), (int(self.x.shape[2]), int(self.x.shape[3]))
        make = lambda i: rise.soft_mask(run.rng(50, i), shape, 8, 0.5)  # noqa: E731
        work = partial(peers.rise_loop, self.score, self.x, behind, make, masks)
        others = self.peer("torch", "a loop as the authors' code", work, 1, False)
        contest([ours, *others], self.repeats, _say)
        values = ours.result.values if ours.result is not None else None
        found = self.compared(others, values, 8.0)
        return [_figure("rise", f"RISE, {masks} masks, {self.size}", ours, None, found)]

    def pool(self) -> list[Figure]:
        """LIME, KernelSHAP, RISE and infidelity from common forwards, beside the dearest of them alone."""
        from xai_engine.explain.pool import Pool

        samples, masks = self.sizes.samples, self.sizes.masks
        three = [
            registry.create("lime", samples=samples),
            registry.create("kernel-shap", samples=samples),
            registry.create("rise", masks=masks),
        ]

        def together() -> list[Explanation]:
            pool = Pool.of(three)
            maps = [explain(m, self.classifier, self.shown, self.target, Run(seed=SEED), pool) for m in three]
            for found in pool.found.values():
                for item in maps:
                    found.infidelity(item.values)
            return maps

        dearest = Entrant("rise alone", partial(self.explain, three[2], self.classifier), warm=False)
        others = [Entrant(m.name, partial(self.explain, m, self.classifier), warm=False) for m in three[:2]]
        ours = Entrant("all from one pool", together, warm=False)
        contest([ours, dearest, *others], max(1, self.repeats - 1), _say)
        entrants = (ours, dearest, *others)
        if any(e.error or not e.seconds for e in entrants):
            note = next((e.error for e in entrants if e.error), "not measured")
            return [
                Figure("pool", "LIME, KernelSHAP, RISE, infidelity together", None, "times", 1.3, note=note)
            ]
        sum_ = sum(median(e.samples) for e in (dearest, *others))
        forwards = sum(e.forwards for e in ours.result)
        note = f"{forwards} forward passes, {median(ours.samples):.2f} s; one by one {sum_:.2f} s without infidelity"
        title = f"LIME {samples}, KernelSHAP {samples}, RISE {masks}, infidelity together, of RISE alone"
        return [
            Figure("pool", title, median(ours.samples) / median(dearest.samples), "times", 1.3, note=note)
        ]
