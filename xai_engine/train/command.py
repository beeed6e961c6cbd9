"""`radiolucent train` and `radiolucent evaluate`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from xai_engine.errors import UsageError
from xai_engine.runtime.run import Progress, Run
from xai_engine.train.manifest import Sample, load

CONFIGS = Path(__file__).parent / "configs"


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="JSON file, or the name of a shipped one: lungs, gate, pneumonia-cxr")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder that manifests are relative to (default: RADIOLUCENT_DATA or ../shared/data)",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="checkpoints, logs and caches (default: runs)"
    )
    parser.add_argument("--out", type=Path, help="bundle folder to write (default: RUNS/NAME/bundle)")


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="bundle folder or the name of an installed one")
    parser.add_argument(
        "manifest", help="training configuration (JSON) or CSV with columns file, label, patient, split"
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
        help="prediction figures only: no conformal sets, robustness, localisation",
    )


def train(args: argparse.Namespace) -> int:
    """Train a lung model or a classifier and write its bundle. Resumes a run that was stopped."""
    import torch

    from xai_engine.runtime import device

    device.apply(device.choose("cpu", "fp32"))
    config = read_config(args.config)
    root = data_root(args.data)
    out = args.runs / str(config.get("name", config["kind"]))
    run = Run(int(config.get("seed", 0)), report=_Ticker())
    if config["kind"] in ("lungs", "gate"):
        from xai_engine.train import gate, lungs

        result = (lungs if config["kind"] == "lungs" else gate).train(config, root, out, run)
        print(json.dumps(result))
        return 0
    if config["kind"] != "classifier":
        raise UsageError(f"{args.config}: kind is {config['kind']!r}; use lungs, gate or classifier")
    from xai_engine.train import checkpoint, classifier, finish

    for name in ("lungs", "gate"):  # what the classifier's bundle is built on
        weights = args.runs / name / f"{name}.safetensors"
        if not weights.is_file():
            raise UsageError(
                f"{weights}: not trained yet; run `radiolucent train {name} --runs {args.runs}` first"
            )
        config[name] = str(weights)
    trained = classifier.train(config, root, out, run)
    checkpoint.export(out / "model.safetensors", trained.network)
    folder = args.out or out / "bundle"
    history = {"images": counts(list(trained.crops.samples)), "torch": torch.__version__}
    gate_weights = Path(config["gate"])
    config["lungs"], config["gate"] = "lungs", "gate"  # what is recorded must not hold this machine's paths
    result = finish.make_bundle(trained, gate_weights, config, folder, history, run)
    finish.save_evaluation(result, out / "evaluation")
    print(f"{folder}")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Measure a bundle on labelled images; tables, figures and pages into a folder, a summary on standard output."""
    from xai_engine.classifier import bundle
    from xai_engine.train import card, finish

    folder = bundle.find(args.bundle)
    samples = read_manifest(args.manifest, args.data)
    if not any(s.split == args.split for s in samples):
        raise UsageError(f"{args.manifest}: no image in split {args.split!r}")
    result = finish.measure(folder, samples, Run(report=_Ticker()), args.split, args.quick)
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
        shipped = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.json")))
        raise UsageError(f"{name}: no such configuration (shipped: {shipped})") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a JSON configuration ({error})") from error
    if not isinstance(config, dict) or "kind" not in config or "data" not in config:
        raise UsageError(f"{path}: a configuration needs at least `kind` and `data`")
    return config


def read_manifest(name: str, data: Path | None) -> list[Sample]:
    """Samples of a configuration's sources, or of one CSV whose labels are 0/1, NORMAL/PNEUMONIA or normal/pneumonia."""
    path = Path(name)
    if path.suffix.lower() != ".csv":
        return [s for source in read_config(name)["data"] for s in load(source, data_root(data))]
    if not path.is_file():
        raise UsageError(f"{name}: no such manifest")
    negative, positive = (0, 1, True), (1, 1, True)
    values = dict.fromkeys(("0", "NORMAL", "normal"), negative) | dict.fromkeys(
        ("1", "PNEUMONIA", "pneumonia"), positive
    )
    source = {
        "manifest": path.name,
        "population": path.stem,
        "columns": {"width": "orig_width", "height": "orig_height"},
        "label_rules": [{"column": "label", "values": values}],
    }
    return load(source, path.resolve().parent)


def data_root(given: Path | None) -> Path:
    """Where the images are. Raises UsageError."""
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


class _Ticker:
    """Progress on standard error: a line that is rewritten on a terminal, one every ten seconds elsewhere."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, progress: Progress) -> None:
        terminal = sys.stderr.isatty()
        now = time.monotonic()
        if now - self.last < (0.2 if terminal else 10.0) and progress.fraction < 1.0:
            return
        self.last = now
        left = "" if progress.remaining_s is None else f", {progress.remaining_s / 60:.0f} min left"
        text = f"{progress.fraction:6.1%}  {progress.message}{left}"
        print(
            f"\r{text:<90}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True
        )
