"""OpenVINO and ONNX Runtime: a clean copy of the network, compiled for any number of images."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from xai_engine.classifier.backends import rounding
from xai_engine.classifier.backends.base import AtOnce, Unavailable, reads_values
from xai_engine.classifier.backends.mixed import FIRST, mixed
from xai_engine.classifier.backends.writer import Writer

DEEP = 8  # batches under way at a time, at most: while one is computed the next is made


class OpenVino:
    """OpenVINO on the CPU, fp32 and, where the processor computes in it, bf16 behind the first layers (Apache-2.0, extra
    `openvino`)."""

    name = "openvino"
    precisions: tuple[str, ...] = ("fp32", "bf16")

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, int, int],
        threads: int,
        graph: fx.GraphModule | None = None,
        entrance: bool = True,
    ) -> None:
        """network: a clean copy; graph: the same written down (`base.folded`), which spares its conversion where all of its
        operations are known to `writer`. entrance: whether what is given to it is an image, see `mixed`. Raises Unavailable.
        """
        if importlib.util.find_spec("openvino") is None:
            raise Unavailable("OpenVINO is not installed (pip install radiolucent[openvino])")
        import openvino

        self._model = _written(graph, shape)
        self._graph = graph if self._model is not None else None
        if self._model is None:
            self._model = _converted(network, shape)
        self._core = openvino.Core()
        self._threads, self._entrance = threads, entrance
        self._requests: dict[str, list[list[Any]]] = {}
        self._turns: dict[str, int] = {}
        self._held: dict[
            tuple[str, int], list[tuple[Any, Any]]
        ] = {}  # what runs, and the images that it reads

    def _streams(self, precision: str) -> list[list[Any]]:
        """DEEP rows of one request per thread: images are independent, and a thread that has its own ones waits for nobody, where
        threads that share one wait for each other after each of its layers. So the sums of an image do not depend on
        the number of threads, either. The system places the threads: a core may be taken by something else.
        """
        if precision not in self._requests:
            model, hint = self._model, "f32"
            if precision == "bf16":
                constants = {} if self._graph is None else rounding.constants(self._graph)
                model = _mixed(self._model, self._entrance, constants)
                if model is None:
                    model, hint = self._model, "bf16"
            compiled = self._core.compile_model(model, "CPU", settings(self._threads, hint))
            self._requests[precision] = [
                [compiled.create_infer_request() for _ in range(self._threads)] for _ in range(DEEP)
            ]
        return self._requests[precision]

    def start(self, batch: torch.Tensor, precision: str) -> Callable[[], torch.Tensor]:
        """Begin with a batch; the returned function waits for its outputs, and is to be called once, in the order of the
        starts. At most DEEP of one precision may be under way; what nobody waits for (after a cancel) ends by itself, and
        its requests are waited for when their turn comes again. The batch must not be changed meanwhile.
        """
        import openvino

        rows = self._streams(precision)
        turn = self._turns[precision] = (self._turns.get(precision, -1) + 1) % DEEP
        requests = rows[turn]
        for request, _ in self._held.pop((precision, turn), []):
            request.wait()
        parts = np.array_split(_array(batch), max(1, min(len(requests), len(batch))))
        used = list(zip(requests, parts, strict=False))
        for request, part in used:
            request.set_input_tensor(openvino.Tensor(part, shared_memory=True))
            request.start_async()  # with the array as its argument it takes twice as long to begin
        self._held[precision, turn] = used

        def finished() -> torch.Tensor:
            for request, _ in used:
                request.wait()
            self._held.pop((precision, turn), None)
            found = [np.array(request.get_output_tensor(0).data, np.float32) for request, _ in used]
            return torch.from_numpy(np.concatenate(found))

        return finished

    def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
        return self.start(batch, precision)()


def settings(threads: int, hint: str = "f32") -> dict[str, Any]:
    """Settings for one image per thread: see `OpenVino._streams`."""
    return {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,
    }


def _written(graph: fx.GraphModule | None, shape: tuple[int, int, int]) -> Any | None:
    """None where an operation is not known."""
    try:
        return None if graph is None else Writer(graph, shape).model()
    except Unavailable:
        return None


def _converted(network: nn.Module, shape: tuple[int, int, int]) -> Any:
    """By OpenVINO's own converter, which traces the network and takes seconds. Raises Unavailable."""
    import openvino

    if reads_values(network, shape):  # traced, it would be another network for other images
        raise Unavailable("OpenVINO cannot take this network (what it does depends on what the image shows)")
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        try:
            model = openvino.convert_model(network, example_input=torch.zeros(2, *shape))
            model.reshape([-1, *shape])
        except Exception as error:
            raise Unavailable(f"OpenVINO cannot take this network ({_first_line(error)})") from None
    return model


def _mixed(model: Any, entrance: bool, constants: Mapping[str, npt.NDArray[np.float32]]) -> Any | None:
    """The model with later layers in bf16; None where that cannot be written down."""
    try:
        return mixed(model, FIRST if entrance else 0.0, constants)
    except Exception:  # an operation that does not allow it: then the plugin rounds as it sees fit
        return None


class OnnxRuntime(AtOnce):
    """ONNX Runtime on the CPU, fp32 (MIT, extra `onnxruntime`)."""

    name = "onnx"
    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, network: nn.Module, shape: tuple[int, int, int], threads: int) -> None:
        """network: a clean copy. Raises Unavailable."""
        for needed in ("onnxruntime", "onnx", "onnxscript"):
            if importlib.util.find_spec(needed) is None:
                raise Unavailable(f"{needed} is not installed (pip install radiolucent[onnxruntime])")
        import onnxruntime

        images = torch.export.Dim("images", min=1)
        try:
            with warnings.catch_warnings(), _quiet():
                warnings.simplefilter("ignore")
                program = torch.onnx.export(
                    network,
                    (torch.zeros(2, *shape),),
                    dynamo=True,
                    dynamic_shapes=({0: images},),
                    verbose=False,
                )
                assert program is not None
                written = program.model_proto.SerializeToString()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Unavailable(f"ONNX Runtime cannot take this network ({_first_line(error)})") from None
        self._input = self._session.get_inputs()[0].name

    def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
        found = self._session.run(None, {self._input: _array(batch)})[0]
        return torch.from_numpy(np.asarray(found, np.float32))


def _array(batch: torch.Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(batch.detach().float().cpu().numpy())


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:120]


@contextlib.contextmanager
def _quiet() -> Any:
    """Converters write to standard output and to the root logger."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
