"""How often the verdict is right, measured: sound, shortcut and random networks, a tuning half and a held-out half.

    python -m xai_engine.assess.rates measure --cases CASES.jsonl [--tuning 20] [--held-out 40] [--world WORLD.npz]
    python -m xai_engine.assess.rates real --cases REAL.jsonl --data FOLDER [--images 40] [--shuffled 8] [--model BUNDLE]
    python -m xai_engine.assess.rates report --cases CASES.jsonl [--real REAL.jsonl] [--document docs/reliability.md]

`measure` trains every network anew (see `rates_world`), explains one image of a patient that it has not seen, and appends one
line of JSON per network; it goes on where it was stopped. `real` tallies the verdicts of a shipped model on radiographs (see
`rates_real`). `report` reads the lines and writes the block of the document.
Limits (`verdict.LIMITS`) may be chosen on the tuning half; the figures that count are those of the held-out half.
A map counts as flagged when its verdict is "do not use".
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from xai_engine.assess import rates_real, verdict
from xai_engine.assess import rates_world as worlds
from xai_engine.assess.card import assess
from xai_engine.assess.options import preset
from xai_engine.assess.types import Finding, ReliabilityCard
from xai_engine.explain import registry
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("integrated-gradients", {"steps": 16, "max_steps": 64}),
    ("grad-cam", {}),
    ("lime", {"samples": 400, "segments": 40, "replacement": "blurred", "blur": 10.0}),
)
KINDS = ("sound", "shortcut", "random")
RANDOM = ("reset", "shuffled", "redrawn")
# Seeds of the networks. Raise the held-out one whenever a rule is changed after its cases were looked at.
BASE = {"tuning": 10_000, "held-out": 70_000}
TRIES = 3  # trainings until one is proven
BEGIN, END = "<!-- rates: written by `python -m xai_engine.assess.rates report` -->", "<!-- /rates -->"

Case = dict[str, Any]


# ---- measuring ---------------------------------------------------------------------------------------------------


def measure(cases: Path, tuning: int, held_out: int, store: Path | None, kinds: Sequence[str]) -> None:
    """Append what is missing. Networks of the two halves share no seed and no assessed patient."""
    done = {(c["half"], c["kind"], c["index"]) for c in load(cases)}
    w = worlds.world(store)
    plan = [
        (half, kind, index)
        for half, count in (("tuning", tuning), ("held-out", held_out))
        for index in range(count)
        for kind in kinds
    ]
    spare: list[nn.Module] = []
    with cases.open("a", encoding="utf-8") as out:
        for half, kind, index in plan:
            if (half, kind, index) in done:
                continue
            case = _case(w, half, kind, index, spare)
            out.write(json.dumps(case) + "\n")
            out.flush()
            verdicts = ", ".join(f"{m['method']}: {m['verdict']}" for m in case["maps"])
            print(f"{half} {kind} {index}: {case['cause']}; {verdicts}", file=sys.stderr)


def _case(w: worlds.World, half: str, kind: str, index: int, spare: list[nn.Module]) -> Case:
    """spare: the network proven last, whose weights the next random one destroys."""
    base = BASE[half] + 10 * index
    names = list(worlds.SHORTCUTS)
    cause = names[index % len(names)] if kind == "shortcut" else "lesion"
    case: Case = {"half": half, "kind": kind, "index": index, "cause": cause, "tries": 0, "maps": []}
    if kind == "random":
        case["cause"] = RANDOM[index % len(RANDOM)]
        start = spare[-1] if spare else worlds.train(w, names[index % len(names)], base + 7)
        network, proven = worlds.randomised(start, case["cause"], base + 8), True
    else:
        offset = 0 if kind == "sound" else 4
        for case["tries"] in range(1, TRIES + 1):
            network = worlds.train(w, cause, base + offset + case["tries"] - 1)
            proof = worlds.prove(w, network, cause, base)
            proven = proof.holds(cause)
            case["proof"] = [proof.lesion, proof.shortcut, proof.right]
            if proven:
                break
    case["proven"] = proven
    if not proven:
        return case
    spare[:] = [network]
    rng = np.random.default_rng([64, base, KINDS.index(kind)])
    first = len(w.pictures) - worlds.UNSEEN + (0 if half == "tuning" else worlds.UNSEEN // 2)
    patient = first + int(rng.integers(worlds.UNSEEN // 2))
    lesion = kind != "shortcut" or bool(rng.random() < 0.5)
    if kind == "shortcut":
        shortcut = cause
    else:
        shortcut = names[int(rng.integers(len(names)))] if rng.random() < 0.5 else ""
    grey = worlds.picture(w, patient, lesion, shortcut, rng)
    model_input, classifier = worlds.input_for(grey), worlds.classifier(network)
    maps = [
        registry.create(name, **params).explain(classifier, model_input, "pneumonia", Run(base))
        for name, params in METHODS
    ]
    lungs = w.lungs[patient].astype(np.float32)
    cards = assess(classifier, model_input, maps, lungs, preset("standard"), Run(base))
    case["image"] = {"patient": patient, "lesion": lesion, "shortcut": shortcut}
    case["maps"] = [
        _of(c, e) | {"hit": _hit(e, w.lesions[patient])} for c, e in zip(cards, maps, strict=True)
    ]
    return case


def _of(card: ReliabilityCard, e: Explanation) -> Case:
    return {
        "method": card.method,
        "verdict": card.verdict,
        "forwards": card.forwards,
        "converged": e.converged,
        "findings": {
            f.name: [f.value, f.grade, f.grade != verdict.grade(f.name, f.value)] for f in card.findings
        },
    }


def _hit(e: Explanation, lesion: worlds.Mask) -> bool:
    """Whether the map's peak, smoothed over two pixels, lies within five pixels of the lesion (pointing game, Zhang 2018)."""
    from scipy.ndimage import binary_dilation, gaussian_filter

    smooth = gaussian_filter(e.values.astype(np.float64), 2)
    near = binary_dilation(lesion, iterations=5)
    return bool(near[np.unravel_index(int(smooth.argmax()), smooth.shape)])


# ---- reading off -------------------------------------------------------------------------------------------------


def load(cases: Path) -> list[Case]:
    if not cases.is_file():
        return []
    return [json.loads(line) for line in cases.read_text(encoding="utf-8").splitlines() if line.strip()]


def decided(found: Case, without: Sequence[str] = ()) -> str:
    """The verdict by the limits of today, from the values that were measured; `without` some of the measures."""
    findings = [
        Finding(name, value, "", name, grade if forced else verdict.grade(name, value))
        for name, (value, grade, forced) in found["findings"].items()
        if name not in without
    ]
    caveats = () if found["converged"] else ("not converged",)
    return verdict.decide(findings, caveats=caveats)[0]


def wilson(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a share (Wilson 1927), 95 %."""
    if total == 0:
        return 0.0, 1.0
    p = hits / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def _share(hits: int, total: int) -> str:
    low, high = wilson(hits, total)
    return (
        f"{100 * hits / total:.1f} % ({hits}/{total}; {100 * low:.1f}–{100 * high:.1f} %)"
        if total
        else "none"
    )


def table(cases: Iterable[Case], half: str) -> list[str]:
    """Rows of the document: kind, map, verdicts, share flagged with its interval."""
    rows = [
        "| network | map | use | with care | do not use | flagged (95 % interval) |",
        "|---|---|---|---|---|---|",
    ]
    proven = [c for c in cases if c["half"] == half and c["proven"]]
    chosen = [c for c in proven if c["cause"] not in worlds.NO_PLACE]
    without = f" (without {', '.join(worlds.NO_PLACE)})" if len(chosen) < len(proven) else ""
    for kind in KINDS:
        for method, _ in METHODS:
            verdicts = [
                decided(m) for c in chosen if c["kind"] == kind for m in c["maps"] if m["method"] == method
            ]
            counts = [verdicts.count(v) for v in ("use", "use with care", "do not use")]
            rows.append(
                f"| {kind}{without if kind == 'shortcut' else ''} | {method} | {counts[0]} | {counts[1]} | {counts[2]} | {_share(counts[2], len(verdicts))} |"
            )
    groups = [(kind, [c for c in chosen if c["kind"] == kind]) for kind in KINDS]
    every = [c for c in proven if c["kind"] == "shortcut"]
    shown = [(f"**{kind}**{without if kind == 'shortcut' else ''}", of) for kind, of in groups]
    shown += [("**shortcut**, every kind", every)] if without else []
    for title, of in shown:
        verdicts = [decided(m) for c in of for m in c["maps"]]
        counts = [verdicts.count(v) for v in ("use", "use with care", "do not use")]
        rows.append(
            f"| {title} | all maps | {counts[0]} | {counts[1]} | {counts[2]} | {_share(counts[2], len(verdicts))} |"
        )
    for title, of in shown:  # a network is called flagged where most of its maps are
        flagged = sum(2 * sum(decided(m) == "do not use" for m in c["maps"]) > len(c["maps"]) for c in of)
        rows.append(f"| {title} | networks, most maps flagged | | | {flagged} | {_share(flagged, len(of))} |")
    hit = [m for c in chosen if c["kind"] == "sound" for m in c["maps"] if m["hit"]]
    wrong = sum(decided(m) == "do not use" for m in hit)
    missed = [m for c in chosen if c["kind"] == "sound" for m in c["maps"] if not m["hit"]]
    rows.append(f"| sound | maps whose peak lies on the lesion | | | {wrong} | {_share(wrong, len(hit))} |")
    refused = sum(decided(m) == "do not use" for m in missed)
    rows.append(
        f"| sound | maps whose peak lies elsewhere | | | {refused} | {_share(refused, len(missed))} |"
    )
    return rows


def block(cases: list[Case], real: list[Case]) -> str:
    """The generated part of docs/reliability.md."""
    out = [BEGIN, ""]
    for half in ("held-out", "tuning"):
        here = [c for c in cases if c["half"] == half]
        if not here:
            continue
        counts = ", ".join(f"{sum(c['kind'] == k and c['proven'] for c in here)} {k}" for k in KINDS)
        dropped = sum(not c["proven"] for c in here)
        out += [f"**{half.capitalize()} half**: {counts} cases; {dropped} not proven and left out.", ""]
        out += [*table(cases, half), ""]
        shortcuts = []
        for name in worlds.SHORTCUTS:
            maps = [m for c in here if c["cause"] == name for m in c["maps"]]
            shortcuts.append(f"{name} {sum(decided(m) == 'do not use' for m in maps)}/{len(maps)}")
        out += [f"{half.capitalize()} maps flagged by shortcut: " + ", ".join(shortcuts) + ".", ""]
    if real:
        out += ["### On real radiographs", "", *rates_real.block(real, decided), ""]
    return "\n".join([*out, END])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m xai_engine.assess.rates", description=__doc__)
    parser.add_argument("what", choices=("measure", "real", "report"))
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--tuning", type=int, default=20)
    parser.add_argument("--held-out", type=int, default=40)
    parser.add_argument("--world", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--document", type=Path)
    parser.add_argument("--data", type=Path, help="folder with kermany/manifest.csv and nih/manifest.csv")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--shuffled", type=int, default=8)
    parser.add_argument("--model")
    parser.add_argument("--real", type=Path)
    args = parser.parse_args(arguments)
    if args.what == "measure":
        measure(args.cases, args.tuning, args.held_out, args.world, args.kinds.split(","))
        return
    if args.what == "real":
        if args.data is None:
            parser.error("real needs --data")
        rates_real.measure(args.cases, args.data, args.images, args.shuffled, _of, args.model)
        return
    text = block(load(args.cases), [] if args.real is None else load(args.real))
    if args.document is None:
        print(text)
        return
    old = args.document.read_text(encoding="utf-8")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    args.document.write_text(re.sub(pattern, lambda _: text, old, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
