"""Agreement of several maps of one image."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.errors import UnsupportedModel
from xai_engine.explain.compute.baselines import blurred
from xai_engine.explain.methods.activation import GradCam
from xai_engine.explain.methods.consensus import Consensus
from xai_engine.explain.ranks import rank_correlation, ranks
from xai_engine.explain.session import Attribution, Session

POOR = 0.2  # mean rank correlation below which the map carries a warning

FloatArray = npt.NDArray[np.float64]


def signed_ranks(values: FloatArray) -> FloatArray:
    """(n,) -> sign times the rank of the size, between -1 and 1; ties share their mean rank, 0 stays 0."""
    size: FloatArray = ranks(np.abs(values)) + 1.0
    return np.sign(values) * size / max(len(values), 1)


def _settled(values: FloatArray) -> FloatArray:
    """Rounded to a millionth of the largest, so that rounding errors on an even map are ties and not ranks."""
    largest = float(np.abs(values).max(initial=0.0))
    return np.round(values / largest, 6) if largest > 0 else values


def explain(method: Consensus, session: Session) -> Attribution:
    """Values: mean signed rank. Uncertainty: standard deviation between the members (n - 1)."""
    members = method.methods()
    valid = session.input.valid
    found: list[FloatArray] = []
    names: list[str] = []
    notes: list[str] = []
    with session.stoppable():
        for index, member in enumerate(members):
            # the one method whose pass is shared among threads; ranks make much of its last digit
            threads = session.one_thread() if isinstance(member, GradCam) else nullcontext()
            with session.part(1.0 / (len(members) - index)), threads:
                try:
                    attribution = member.attribute(session)
                except UnsupportedModel as error:
                    raise UnsupportedModel(f"{error}; leave {member.name} out of the consensus") from None
            if session.partial:
                break
            if not attribution.converged:
                notes += [f"{member.title}: {note}" for note in attribution.notes]
            plane = torch.from_numpy(np.asarray(attribution.values, np.float64)).to(session.x.device)
            smooth = blurred(plane[None, None], session.valid, method.smoothing)[0, 0].cpu().numpy()
            found.append(_settled(smooth[valid]))
            names.append(member.name)
    settled = not notes
    values, spread = np.zeros(valid.shape), np.zeros(valid.shape)
    extra = {"members": float(len(found))}
    if found and valid.any():
        ranked = np.stack([signed_ranks(v) for v in found])
        values[valid] = ranked.mean(0)
        if len(found) > 1:
            spread[valid] = ranked.std(0, ddof=1)
            pairs = [rank_correlation(a, b) for a, b in combinations(found, 2)]
            extra |= {"agreement": float(np.mean(pairs)), "least_agreement": min(pairs)}
            extra["same_sign"] = float((np.abs(np.sign(ranked).sum(0)) == len(found)).mean())
            if extra["agreement"] < POOR:
                notes.append(
                    f"The methods do not agree (mean rank correlation {extra['agreement']:.2f}): there is no consensus."
                )
    return Attribution(values, None, settled, tuple(notes), extra=extra, uncertainty=spread)
