"""Search for hyperparameters with Optuna: `radiolucent train CONFIG --tune`.

The study lies in the run's folder (SQLite). Trial k draws its values from (seed, k) and what was measured before, so a
search that was stopped goes on as if it had not been; a trial that was stopped goes on from its own checkpoint.
"""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xai_engine.errors import RadiolucentError, UsageError
from xai_engine.runtime import atomic
from xai_engine.runtime.run import Run
from xai_engine.train import checkpoint, classifier, settings
from xai_engine.train.distributed import Group
from xai_engine.train.manifest import load_all

TRIALS = 20
SPACE: dict[str, dict[str, Any]] = {
    "lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "weight_decay": {"low": 1e-3, "high": 1e-1, "log": True},
    "augment.rotate": {"low": 0.0, "high": 20.0},
    "augment.p_erase": {"low": 0.0, "high": 0.6},
    "augment.p_outside": {"low": 0.0, "high": 0.8},
}
WARM_UP = 2  # the first epoch after which a trial may be pruned
KEYS = {"trials", "seed", "space"}


def search(
    config: Mapping[str, Any], root: Path, out: Path, run: Run, trials: int = 0, group: Group | None = None
) -> Path:
    """Run the search; returns the configuration with the best values, ready to be trained (`tuned.json`).

    config: complete; its `tune` may give `trials`, `seed` and `space`: dotted key -> {"low", "high", "log", "step"} or
    {"choices"}. trials: how many in all, when not 0. The figure is the mean validation AUC; a trial that is worse than
    the median of the others at the same epoch is pruned, one whose loss is not a number has failed.
    Raises UsageError for a space that cannot be used, and what `classifier.train` raises.
    """
    try:
        import optuna
    except ImportError:
        raise RadiolucentError("--tune needs Optuna: pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tune = dict(config.get("tune") or {})
    base = {k: v for k, v in config.items() if k != "tune"}
    space = tune.get("space", SPACE)
    total, seed = trials or int(tune.get("trials", TRIALS)), int(tune.get("seed", config["seed"]))
    check(base, tune, space)
    load_all(base["data"], root)  # before anything is written: a trial would find its problems too late
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{(out / 'study.db').resolve()}",
        study_name=str(config["name"]),
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=WARM_UP),
    )
    states = optuna.trial.TrialState
    before = study.user_attrs.get("search")
    now = json.loads(json.dumps({"space": space, "seed": seed, "base": settings.fingerprint(base)}))
    if before is not None and before != now:
        raise UsageError(f"{out}: this search began with another configuration; choose another name")
    study.set_user_attr("search", now)
    for killed in study.get_trials(states=(states.RUNNING,)):  # its values will be drawn again
        study.tell(killed.number, state=states.FAIL)
    for number in range(sum("outcome" in t.user_attrs for t in study.trials), total):
        study.sampler = optuna.samplers.TPESampler(seed=seed + number)
        trial = study.ask()
        part = run.part(number / total, (number + 1) / total, f"trial {number + 1}/{total}, ")
        values = {key: _suggest(trial, key, domain) for key, domain in space.items()}
        folder = out / "trials" / f"{number + 1:03d}"
        state, value = _attempt(trial, applied(base, values), root, folder, out, part, group)
        trial.set_user_attr("outcome", state.name)
        study.tell(trial, value, state=state)
    done = [t for t in study.trials if "outcome" in t.user_attrs]
    _table(out / "trials.csv", done, list(space))
    if not any(t.state == states.COMPLETE for t in done):
        raise RadiolucentError(
            f"{out}: no trial came to an end; narrow the space or raise the number of trials"
        )
    best = applied(base, study.best_params)
    best = {k: v for k, v in best.items() if k not in ("lungs", "gate")} | {"name": f"{config['name']}-tuned"}
    with atomic.file(out / "tuned.json") as path:
        path.write_text(json.dumps(best, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return out / "tuned.json"


def check(base: Mapping[str, Any], tune: Mapping[str, Any], space: Any) -> None:
    """Raises UsageError naming everything in `tune` that cannot be used."""
    problems = [f"unknown key 'tune.{key}'" for key in sorted(set(tune) - KEYS)]
    if not isinstance(space, Mapping) or not space:
        raise UsageError("tune.space must be an object: key -> range or choices")
    middle: dict[str, Any] = {}
    for key, domain in space.items():
        choices = domain.get("choices") if isinstance(domain, Mapping) else None
        if isinstance(choices, list) and choices and set(domain) == {"choices"}:
            middle[key] = choices[0]
        elif (
            isinstance(domain, Mapping)
            and set(domain) <= {"low", "high", "log", "step"}
            and all(isinstance(domain.get(k), int | float) for k in ("low", "high"))
            and domain["low"] < domain["high"]
            and not (domain.get("log") and domain["low"] <= 0)
            and not (domain.get("log") and domain.get("step"))
        ):
            middle[key] = domain["low"]
        else:
            problems.append(f"tune.space.{key} needs low < high (above 0 for log, without step), or choices")
    if problems:
        raise UsageError("; ".join(problems))
    settings.complete(applied(base, middle), "tune.space")


def applied(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with values at dotted keys ("augment.rotate"). Raises UsageError for one that leads nowhere."""
    out = copy.deepcopy(dict(base))
    for key, value in values.items():
        *way, last = key.split(".")
        place = out
        for step in way:
            if not isinstance(place.get(step), dict):
                raise UsageError(f"tune.space.{key}: there is no {step!r} to set it in")
            place = place[step]
        place[last] = value
    return out


def _suggest(trial: Any, key: str, domain: Mapping[str, Any]) -> Any:
    if "choices" in domain:
        return trial.suggest_categorical(key, domain["choices"])
    low, high, step = domain["low"], domain["high"], domain.get("step")
    if all(isinstance(v, int) for v in (low, high, step or 1)):
        return trial.suggest_int(key, low, high, step=step or 1, log=bool(domain.get("log")))
    return trial.suggest_float(key, low, high, step=step, log=bool(domain.get("log")))


def _attempt(
    trial: Any, config: dict[str, Any], root: Path, folder: Path, cache: Path, run: Run, group: Group | None
) -> tuple[Any, float | None]:
    """Train one trial; its state and figure."""
    import optuna

    states = optuna.trial.TrialState
    for row in checkpoint.read_log(folder):  # epochs from before it was stopped
        trial.report(float(row["val_auc"]), int(row["epoch"]))

    def judge(row: dict[str, float]) -> None:
        trial.report(row["val_auc"], int(row["epoch"]))
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        classifier.train(config, root, folder, run, group=group, on_epoch=judge, cache=cache)
    except optuna.TrialPruned:
        return states.PRUNED, None
    except classifier.TrainingFailed:
        return states.FAIL, None
    areas = [float(row["val_auc"]) for row in checkpoint.read_log(folder)]
    return states.COMPLETE, max(areas) if config["patience"] else areas[-1]


def _table(path: Path, trials: list[Any], keys: list[str]) -> None:
    with atomic.file(path) as building, building.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial", "state", "val_auc", *keys])
        for number, trial in enumerate(trials, start=1):
            value = "" if trial.value is None else round(trial.value, 5)
            values = [trial.params.get(key, "") for key in keys]
            writer.writerow([number, trial.user_attrs["outcome"].lower(), value, *values])
