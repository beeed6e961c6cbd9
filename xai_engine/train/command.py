"""`radiolucent train` and `radiolucent evaluate`."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_engine.errors import RadiolucentError, UsageError
from xai_engine.paths import models_dir
from xai_engine.runtime.run import Run
from xai_engine.train import settings
from xai_engine.train.manifest import load
from xai_engine.train.progress import Ticker
from xai_engine.train.sample import Sample

if TYPE_CHECKING:
    from xai_engine.runtime.device import DevicePolicy
    from xai_engine.train.distributed import Group

CONFIGS = Path(__file__).parent / "configs"


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", help=f"JSON file (docs/user/training.md), or a shipped one: {', '.join(shipped())}"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder that images and manifests are relative to (default: where the configuration lies, "
        "else RADIOLUCENT_DATA or ../shared/data)",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="checkpoints, logs and caches (default: runs)"
    )
    parser.add_argument("--out", type=Path, help="bundle folder to write (default: RUNS/NAME/bundle)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    parser.add_argument(
        "--tune",
        nargs="?",
        type=int,
        const=0,
        metavar="TRIALS",
        help="search the configuration's `tune.space` with Optuna and write RUNS/NAME/tuned.json instead of a bundle",
    )


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="bundle folder or the name of an installed one")
    parser.add_argument(
        "manifest",
        help="training configuration (JSON) or CSV with columns file, label, patient, split and, where known, age, sex, "
        "view (subgroups), boxes (JSON, [x, y, width, height] each), orig_width, orig_height",
    )
    parser.add_argument("--data", type=Path, help="folder that a configuration's manifests are relative to")
    parser.add_argument(
        "--split", default="test", choices=("train", "val", "test"), help="which split (default: test)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("evaluation"),
        help="folder for JSON, CSV, figures, HTML and PDF (default: evaluation)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="predictions, prediction sets and shortcut check only: no gate, robustness, localisation",
    )


def train(args: argparse.Namespace) -> int:
    """Train a lung model, a gate or a classifier and write its bundle. Resumes a run that was stopped."""
    from xai_engine.runtime import device
    from xai_engine.train import distributed
    from xai_engine.train.sample import ManifestError

    if distributed.asked_for() and args.tune is not None:
        raise UsageError("--tune works in one process; leave torchrun out")
    config = read_config(args.config)
    kind = config["kind"]
    if kind not in ("lungs", "gate", "classifier", "selection"):
        raise UsageError(f"{args.config}: kind is {kind!r}; use lungs, gate, classifier or selection")
    policy = device.choose(args.device if kind == "classifier" else "cpu", "fp32")
    device.apply(policy)
    with distributed.group(policy.device) as group, _gentle_stop() as stop:
        ticker = Ticker() if group.main else None
        try:
            run = Run(int(config.get("seed", 0)), cancel=stop, report=ticker)
            return _train(args, config, policy, group, run)
        except Exception as error:
            if ticker is not None:
                ticker.close()
            if not group.speaks():  # another process has told the user why
                raise SystemExit(getattr(error, "exit_code", 1)) from None
            if isinstance(error, ManifestError) and len(error.problems) > 1:
                print(*error.problems, sep="\n", file=sys.stderr)
                raise NothingTrained(
                    f"{error.source}: {len(error.problems)} problems, listed above; nothing was trained"
                ) from error
            raise
        finally:
            if ticker is not None:
                ticker.close()


def _train(
    args: argparse.Namespace, config: dict[str, Any], policy: DevicePolicy, group: Group, run: Run
) -> int:
    from xai_engine.train import checkpoint, classifier, curves, finish, record

    # what is wrong with the configuration is said before what is wrong with the folder
    if config["kind"] == "classifier":
        config = settings.complete(config, args.config)
        finish.check(config)
    root = data_root(args.data, args.config, config)
    out = args.runs / str(config.get("name", config["kind"]))
    if config["kind"] in ("lungs", "gate"):
        from xai_engine.train import gate, lungs

        result = (lungs if config["kind"] == "lungs" else gate).train(config, root, out, run)
        print(json.dumps(result))
        return 0
    if config["kind"] == "selection":
        from xai_engine.train import selection

        base = settings.complete(read_config(config["base"]), config["base"])
        base |= {"lungs": str(_part("lungs", args.runs, args.config in shipped()))}
        page = args.out or out / "model-selection.md"
        selection.run(config, base, root, out, page, run)
        print(page)
        return 0
    own = args.config in shipped()
    config |= {part: str(_part(part, args.runs, own, config.get(part))) for part in ("lungs", "gate")}
    if group.main and (notice := curves.missing()):
        print(f"radiolucent: {notice}", file=sys.stderr)
    if args.tune is not None:
        from xai_engine.train import tune

        path = tune.search(config, root, out, run, args.tune, group)
        where = "" if args.data is None else f" --data {args.data}"
        print(f"{path}\nradiolucent train {path}{where} --runs {args.runs}")
        return 0

    def begin() -> None:
        # not earlier: a run that is refused leaves nothing, and replaces no other run's record
        if group.main:
            record.begin(out, config, policy, group.world)

    trained = classifier.train(config, root, out, run, group=group, on_start=begin)
    if not group.main:
        return 0
    checkpoint.export(out / "model.safetensors", trained.network)
    folder = args.out or out / "bundle"
    history = {"images": counts(list(trained.crops.samples)), "torch": _torch_version()}
    gate_weights = Path(config["gate"])
    config = record.portable(config)
    result = finish.make_bundle(trained, gate_weights, config, folder, history, run, root)
    finish.save_evaluation(result, out / "evaluation")
    record.keep(out, args.runs, folder)
    print(f"{folder}")
    return 0


class NothingTrained(RadiolucentError):
    """The data have problems that were listed. Exit code 3."""

    exit_code = 3


@contextmanager
def _gentle_stop() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM end the training after the current step, with its state kept. A second Ctrl-C ends it at
    once, unless torchrun does the counting."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _: object) -> None:
        if stop.is_set() and number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _part(name: str, runs: Path, own: bool, given: str | None = None) -> Path:
    """Weights of the lung or gate network: as the configuration says, trained in `runs`, or of the shipped bundle.

    own: the configuration is one that a shipped bundle is made of, which must not be built on itself.
    """
    if given is not None and given != name:  # a recorded configuration holds the name alone
        if not Path(given).is_file():
            raise UsageError(f"{given}: no such file ({name} of the configuration)")
        return Path(given)
    trained = runs / name / f"{name}.safetensors"
    if trained.is_file():
        return trained
    shipped_weights = models_dir() / "pneumonia-cxr" / "models" / f"{name}.safetensors"
    if own or not shipped_weights.is_file():
        raise UsageError(f"{trained}: not trained yet; run `radiolucent train {name} --runs {runs}` first")
    return shipped_weights


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def evaluate(args: argparse.Namespace) -> int:
    """Measure a bundle on labelled images; tables, figures and pages into a folder, a summary on standard output."""
    from xai_engine.classifier import bundle
    from xai_engine.train import card, finish
    from xai_engine.train.measure import measure

    folder = bundle.find(args.bundle)
    samples = read_manifest(args.manifest, args.data)
    if not any(s.split == args.split for s in samples):
        raise UsageError(f"{args.manifest}: no image in split {args.split!r}")
    foreign = args.manifest.lower().endswith(".csv")  # then no folder of further files is known
    data = args.data if foreign else data_root(args.data)
    result = measure(folder, samples, Run(report=Ticker()), args.split, args.quick, data)
    finish.save_evaluation(result, args.out)
    for row in card.flat(result):
        value = [f"{v:.4f}" if isinstance(v, float) else str(v) for v in row[2:] if v not in ("", None)]
        print(f"{row[0]:10s} {row[1]:34s} {'  '.join(value)}")
    for problem in result["unreadable"]:
        print(problem, file=sys.stderr)
    print(args.out / "evaluation.json")
    return 3 if result["unreadable"] else 0


def read_config(name: str) -> dict[str, Any]:
    """A training configuration: a path or a shipped name. Raises UsageError."""
    path = Path(name) if Path(name).is_file() else CONFIGS / f"{name}.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{name}: no such configuration (shipped: {', '.join(shipped())})") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a JSON configuration ({error})") from error
    if isinstance(config, dict) and "base" in config:  # of a comparison: the same images as its base
        config["data"] = read_config(str(config["base"]))["data"]
    if not isinstance(config, dict) or not isinstance(config.get("data"), list) or not config["data"]:
        raise UsageError(f"{path}: a configuration needs at least `data`, a list of folders or manifests")
    return {"kind": "classifier", "name": path.stem} | config


def shipped() -> list[str]:
    """Names of the configurations that come with the program."""
    return sorted(p.stem for p in CONFIGS.glob("*.json"))


def read_manifest(name: str, data: Path | None) -> list[Sample]:
    """Samples of a configuration's sources, or of one CSV whose labels are 0/1, NORMAL/PNEUMONIA or normal/pneumonia.

    Of a CSV the columns age, sex, view become subgroups, boxes (JSON list of [x, y, width, height]) are what maps are
    held against, orig_width and orig_height the true proportions; each where there is one.
    """
    path = Path(name)
    if path.suffix.lower() != ".csv":
        config = read_config(name)
        return [s for source in config["data"] for s in load(source, data_root(data, name, config))]
    if not path.is_file():
        raise UsageError(f"{name}: no such manifest")
    try:
        with path.open(encoding="utf-8-sig") as stream:
            there = {name.strip().strip('"') for name in re.split("[,;\t]", stream.readline())}
    except (OSError, UnicodeDecodeError):  # `load` says so
        there = set()
    source = {
        "manifest": path.name,
        "population": path.stem,
        "columns": {"width": "orig_width", "height": "orig_height", "boxes": "boxes"},
        "groups": {name: name for name in ("age", "sex", "view") if name in there},
    }
    return load(source, path.resolve().parent)


def data_root(given: Path | None, name: str = "", config: Mapping[str, Any] | None = None) -> Path:
    """Where the images are: as given, beside the configuration file where all that it names lies there, or where
    RADIOLUCENT_DATA says. Raises UsageError."""
    if given is None and config is not None and Path(name).is_file():
        beside = Path(name).resolve().parent
        if all((beside / str(s.get("folder", s.get("manifest", "?")))).exists() for s in config["data"]):
            return beside
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = given or Path(os.environ.get("RADIOLUCENT_DATA", default))
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of images; give --data or set RADIOLUCENT_DATA")
    return folder


def counts(samples: list[Sample]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (population, split), n in sorted(Counter((s.population, s.split) for s in samples).items()):
        found.setdefault(population, {})[split] = n
    return found
