"""The frame in which every method runs: passes through the network, on whichever backend and in whichever precision pays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from xai_engine.classifier.backends import base as backends
from xai_engine.classifier.backends import choose
from xai_engine.classifier.backends import gradients as quick_ways
from xai_engine.classifier.backends.base import Backend
from xai_engine.classifier.types import ModelInput
from xai_engine.errors import ModelError, UnsupportedModel
from xai_engine.explain import scoring, sound
from xai_engine.explain.guard import any_hooked, as_found, is_work, modules, own_torch_rng, removed
from xai_engine.explain.progress import Progress
from xai_engine.explain.protocol import Explainable
from xai_engine.runtime.run import Run

if TYPE_CHECKING:
    from xai_engine.explain.behind import Behind
    from xai_engine.explain.pool import Pool, Shared

T = TypeVar("T")
GRADIENT_BATCH = 8  # images of one backward pass: bounds the memory for activations
LOOKS = 16  # for cancellation in a pass, at least
LOOKS_PER_UNIT = 3  # of work, see backends.base.UNIT
QUICKEN_MINIMUM = 16  # gradients below which a quicker way costs more than it saves
FEW = 2  # images whose scores have one thread of torch
COMPILE_MINIMUM = 200  # scores below which compiling costs more than it saves

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """What a method computes; `explain` adds the provenance. Fields as in Explanation; values (rows, columns)."""

    values: npt.NDArray[np.floating[Any]]
    completeness_error: float | None = None
    converged: bool = True
    notes: tuple[str, ...] = ()
    segments: npt.NDArray[np.int32] | None = None
    extra: dict[str, float] = field(default_factory=dict)
    uncertainty: npt.NDArray[np.floating[Any]] | None = None


class Session(Progress):
    """One image, one target, one network, for the time of one explanation. Use as a context manager.

    Between enter and exit the network is in eval mode with frozen weights, and small hooks on its modules look for
    cancellation (a batch may take seconds, stopping must not) and report progress. On exit everything is as before.
    """

    def __init__(
        self,
        classifier: Explainable,
        model_input: ModelInput,
        target: str,
        run: Run,
        shared: Pool | None = None,
    ) -> None:
        classifier.target_index(target)  # raises UsageError before any work
        self.classifier = classifier
        self.input = model_input
        self.target = target
        super().__init__(run)
        self.network = classifier.network
        self.x = classifier.tensor(model_input).float()
        self.valid = torch.from_numpy(model_input.valid.copy()).to(self.x.device)
        self.shared = shared
        self.batch_size = classifier.batch_size  # of one pass; __enter__ lowers it to what stops in time
        self.gradient_batch = min(GRADIENT_BATCH, classifier.batch_size)
        self.precision = "fp32"
        self.backend = "torch"
        self.notes: list[str] = []
        self._compiled: Backend | None = None
        self._modules: list[nn.Module] = []  # of the network, for the time of the session
        self._quick: quick_ways.InputGradients | None = None
        self._threads = 0  # torch's own, where `quicken` has taken them for whole images
        self._noticed = len(getattr(classifier, "notices", ()))
        self._stack = ExitStack()

    # ---- frame -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Session:
        with ExitStack() as stack:
            found = self._modules = stack.enter_context(as_found(self.network))
            stack.enter_context(own_torch_rng(self.x.device))
            sound.legible(self)
            looks = len(found)
            if self.classifier.device == "cpu":
                cost = backends.operations(self.network, tuple(self.x.shape[1:]))
                self.batch_size = backends.unit_size(cost, self.classifier.batch_size)
                self.gradient_batch = min(self.gradient_batch, 2 * self.batch_size)
                units = 3 * self.gradient_batch * cost / backends.UNIT  # both passes
                looks = max(LOOKS, math.ceil(LOOKS_PER_UNIT * units)) if cost > 0 else looks
            handles: list[RemovableHandle] = []
            stack.callback(removed, handles)
            working = [module for module in found if is_work(module)]
            every = max(1, len(working) // looks)  # a hook costs a small pass some thousandths
            for module in working[::every]:
                handles.append(module.register_forward_pre_hook(self._before))
            sound.check(self)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _before(self, module: nn.Module, args: Any) -> None:
        """One hook for both passes: a second one behind every module would cost a small pass some hundredths more."""
        self.tick()
        x = args[0] if args else None
        if isinstance(x, torch.Tensor) and x.requires_grad and torch.is_grad_enabled():
            x.register_hook(self._backward)

    _before.is_look = True  # type: ignore[attr-defined]  # see guard.is_hooked

    def _backward(self, gradient: torch.Tensor) -> None:
        self.tick()

    # ---- passes ------------------------------------------------------------------------------------------------

    def scores(self, batch: torch.Tensor, precision: str = "fp32") -> FloatArray:
        """Scores (n,) float64 of a batch of any size, without gradients. Few images have one thread: what a map is measured from
        must not hang on how many there are."""
        if 0 < len(batch) <= FEW and self._compiled is None:
            with self.one_thread():
                return self._scores(batch, precision)
        return self._scores(batch, precision)

    def _scores(self, batch: torch.Tensor, precision: str) -> FloatArray:
        out = np.empty(len(batch), np.float64)
        for start in range(0, len(batch), self.batch_size):
            part = batch[start : start + self.batch_size]
            self.tick()
            out[start : start + len(part)] = self.taken(self.begin(part, precision))
        return out

    def taken(self, finished: scoring.Finished) -> FloatArray:
        """The scores of a pass that was begun, counted."""
        found = self._finite(finished().double().cpu().numpy())
        self.count(len(found))
        return found

    def begin(self, part: torch.Tensor, precision: str) -> scoring.Finished:
        """Begin a pass; the returned function waits for its scores. At most `scoring.UNDER_WAY` in one precision at a time, taken
        in their order. Torch itself has computed when this returns."""
        compiled = self._compiled
        if compiled is None or precision not in compiled.precisions or self.is_tapped():
            with self.all_threads():
                found = self.classifier.scores(part, self.target, precision)
            return lambda: found
        self.backend = compiled.name
        outputs = compiled.start(part, precision)
        return lambda: self.classifier.score_of(outputs(), self.target)

    def is_tapped(self) -> bool:
        """Whether somebody looks into the network, or changes what a layer puts out: compiled copies know no hooks."""
        return any_hooked(self._modules or modules(self.network))

    def scored(
        self,
        count: int,
        make: Callable[[int, int], torch.Tensor],
        behind: Behind | None = None,
        features: Callable[[int, int], FloatArray] | None = None,
        means: bool = False,
        before: int = 0,
        judge: scoring.Judge | None = None,
    ) -> Iterator[tuple[int, int, FloatArray]]:
        """Score `count` images made batch by batch: yields (start, stop, scores). Memory is that of a few batches (see
        `scoring`): while one is scored the next is made, so `make` may be some batches ahead of what is yielded.

        make(start, stop) -> (stop - start, channels, rows, columns).
        behind: what takes what `make` gives, where that is no image but an activation within the network.
        features: (start, stop) -> (stop - start, p): what was changed in these images, for a map whose values are about the
        slopes of the scores on them or, with `means`, their covariances with the scores.
        before: images after which it is first asked whether bf16 will do, for a series that may end soon.
        judge: for another map: (exact scores of the first images, reduced scores of these and some more) -> the rank correlation
        that the map can be expected to keep.

        Where the classifier allows bf16, the first images are scored in both precisions (and yielded in fp32). With
        features bf16 is used, corrected, only if the map is expected to keep its ranks to `scoring.BF16_GATE` (see
        explain.precision), or its judge says so; without, only if the scores keep them.
        """
        if behind is None and self.is_compiled(count):
            self.alone()
        begin, compiled, under_way = (
            (self.begin, self._compiled, scoring.UNDER_WAY)
            if behind is None
            else (behind, behind.backend, scoring.IN_BLOCKS)
        )
        # where a compiled copy knows no bf16 its fp32 is faster than torch's bf16
        precisions = ("fp32", "bf16") if compiled is None else compiled.precisions
        if compiled is None:  # torch computes at once
            under_way = 1
        yield from scoring.scored(
            self, count, make, begin, precisions, features, means, under_way, before, judge
        )

    def compile(self) -> None:
        """From here on passes without gradients run on the backend that the classifier's policy asks for.

        Choosing and compiling happen once per network and take seconds; cancellation is looked for meanwhile.
        """
        if self._compiled is None:
            channels, rows, columns = (int(n) for n in self.x.shape[1:])
            self._compiled = self.compiled(self.network, (channels, rows, columns))

    def is_compiled(self, count: int) -> bool:
        """Whether so many passes without gradients run on another backend than torch."""
        if count >= COMPILE_MINIMUM:
            self.compile()
        return self._compiled is not None

    def compiled_for(
        self, count: int, network: nn.Module, shape: tuple[int, int, int], entrance: bool = True
    ) -> Backend | None:
        """As `compiled`, where so many passes are to come that it pays."""
        return self.compiled(network, shape, entrance) if count >= COMPILE_MINIMUM else None

    def compiled(
        self, network: nn.Module, shape: tuple[int, int, int], entrance: bool = True
    ) -> Backend | None:
        """A network, or with entrance=False what lies behind its first layers, on the backend that the policy asks for;
        None where that is torch."""
        policy = getattr(self.classifier, "policy", None)
        if policy is None or policy.backend == "torch" or self.classifier.device != "cpu":
            return None
        about = (policy.backend, self.classifier.precision, policy.threads)
        choice = choose.known(network, *about)
        if choice is None:
            choice = self.awaited(choose.prepare(network, shape, *about, entrance, self.tick))
        return choice.backend

    def from_pool(self, shared: Shared) -> dict[str, float]:
        """Provenance of scores that several methods have in common, for `extra`: the same whichever method came first."""
        self.precision, self.backend = shared.precision, shared.backend
        self.notes = [*shared.notes]
        count = len(shared.scores) + 2
        self.notes.append(f"Its {count} changed images are shared with other maps of this analysis.")
        return {"forwards_shared": float(count)}

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Passes inside are told of nowhere but in the counts: the map is then the same whether they had to be made or not."""
        before = self.precision, self.backend, [*self.notes], self._compiled
        try:
            yield
        finally:
            self.precision, self.backend, self.notes, self._compiled = before

    def awaited(self, work: Callable[[], T]) -> T:
        """The result of work that cannot be stopped, looking for cancellation meanwhile.

        After cancellation the thread ends by itself; nobody waits for it.
        """
        thread = ThreadPoolExecutor(1)
        try:
            future = thread.submit(work)
            while True:
                self.tick()
                with suppress(FutureTimeout):
                    return future.result(timeout=0.1)
        finally:
            thread.shutdown(wait=False)

    def gradients(self, batch: torch.Tensor) -> tuple[FloatArray, torch.Tensor]:
        """Scores (n,) and their gradients (n, channels, rows, columns) float32, in passes of
        `gradient_batch` images, or of what the quicker way takes after `quicken`.
        """
        scores, gradients = [], []
        start = 0
        way = None if self._quick is None or self.is_tapped() else self._quick
        if way is not None:
            self.backend = way.name
            for start in range(0, len(batch), way.size):
                self.tick()
                found, gradient = way(batch[start : start + way.size], self._looked)
                scores.append(found.double().numpy())
                gradients.append(gradient)
            start = len(batch)
        while start < len(batch):
            leaf = batch[start : start + self.gradient_batch].detach().float().requires_grad_(True)
            self.tick()
            # where a unit is at its kink, a last digit that hangs on the threads decides what passes: one image has one thread
            threads = self.one_thread() if len(batch) == 1 else self.all_threads()
            try:
                with threads, torch.enable_grad():
                    # a copy, so that a network whose first operation works in place does not change the leaf
                    values = self.classifier.differentiable_scores(leaf.clone(), self.target)
                    (gradient,) = self.differentiate(values, [leaf])
            except torch.cuda.OutOfMemoryError:
                self._out_of_memory()
                continue
            self.count(len(leaf), len(leaf))
            scores.append(values.detach().double().cpu().numpy())
            gradients.append(gradient.detach())
            start += len(leaf)
        joined = torch.cat(gradients)
        if not bool(torch.isfinite(joined).all()):
            raise UnsupportedModel(f"{self.about}: its gradient is not finite for this image")
        return self._finite(np.concatenate(scores)), joined

    @property
    def gradients_at_once(self) -> int:
        """Images whose gradients are best asked for in one call."""
        return self.gradient_batch if self._quick is None else self._quick.size

    def quicken(self, count: int) -> None:
        """From here on `gradients` takes the quickest way known, see `backends.gradients`, where so many are to come.

        Which way does not depend on the batch, so that one seed gives the same bits again. Preparing it takes half a
        second, once per bundle and target; cancellation is looked for meanwhile.
        """
        policy = getattr(self.classifier, "policy", None)
        if policy is None or self.classifier.device != "cpu" or count < QUICKEN_MINIMUM or self.is_tapped():
            return
        weights = backends.fingerprint(self.network)
        if not quick_ways.is_shipped(self.classifier.info.sha256, weights):
            return
        shape = tuple(int(n) for n in self.x.shape[1:])
        key = (self.target, shape, policy.threads, policy.backend)
        choice = quick_ways.known(self.network, key, weights)
        if choice is None:
            score = partial(self.classifier.score_of, target=self.target)
            about = (policy.threads, policy.backend, self.tick)
            work = quick_ways.prepare(self.network, shape, score, key, *about)
            choice = self.awaited(work)
        self._quick = choice.ways
        if choice.ways is not None:
            self.alone()

    def alone(self) -> None:
        """From here on torch has one thread but for its own passes. What is done between the passes of threads of our
        own is little, and torch's helpers would spin beside them for milliseconds after each operation of it.
        """
        if not self._threads and torch.get_num_threads() > 1:
            self._threads = torch.get_num_threads()
            self._stack.callback(torch.set_num_threads, self._threads)
            torch.set_num_threads(1)

    @contextmanager
    def all_threads(self) -> Iterator[None]:
        """All of torch's threads inside, for a pass by torch itself."""
        if not self._threads:
            yield
            return
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(1)

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        """One thread of torch inside, its passes among it: for what would make much of a last digit, which depends on the threads."""
        before, self._threads = (torch.get_num_threads(), self._threads), 0
        torch.set_num_threads(1)
        try:
            yield
        finally:
            self._threads = before[1]
            torch.set_num_threads(before[0])

    def _looked(self, done: int) -> None:
        self.count(done, done)
        self.tick()

    def differentiate(self, scores: torch.Tensor, to: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Gradients of the summed scores. Raises UnsupportedModel where the network breaks the chain."""
        try:
            return torch.autograd.grad(scores.sum(), to)
        except RuntimeError as error:
            text = str(error)
            if "does not require grad" in text or "not to have been used" in text or "appears to not" in text:
                raise UnsupportedModel(
                    f"{self.about}: its score does not depend differentiably on the input"
                ) from None
            if "modified by an inplace operation" in text:
                raise UnsupportedModel(
                    f"{self.about}: an operation in place destroys what its gradient needs; rebuild it "
                    f"without inplace=True"
                ) from None
            raise

    def _out_of_memory(self) -> None:
        give_up = getattr(self.classifier, "out_of_memory", None)
        if self.gradient_batch > 1:
            self.gradient_batch //= 2
            self.notes.append(f"The GPU ran out of memory: {self.gradient_batch} gradients at a time.")
        elif give_up is None:
            raise ModelError(f"{self.about}: one image does not fit into memory; close other programs")
        else:
            self.classifier.batch_size = 1
            give_up()

    def notices(self) -> tuple[str, ...]:
        """What the classifier had to give up since this session began."""
        return tuple(getattr(self.classifier, "notices", ())[self._noticed :])

    # ---- helpers -----------------------------------------------------------------------------------------------

    @property
    def about(self) -> str:
        """The network, for messages."""
        info = self.classifier.info
        return f"{info.name} ({info.architecture})"

    def _finite(self, scores: FloatArray) -> FloatArray:
        if not np.isfinite(scores).all():
            raise UnsupportedModel(f"{self.about}: its score is not a finite number for this image")
        return scores
