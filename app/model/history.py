"""Undo and redo by snapshots: regions and styles are small frozen values, so a snapshot is a few references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.regions import Region

LIMIT = 200


@dataclass(frozen=True)
class Snapshot:
    """What undo brings back. `styles` by layer id."""

    regions: tuple[Region, ...] = ()
    styles: dict[int, LayerStyle] = field(default_factory=dict)


class History:
    """A line of snapshots and where we are on it. The snapshot at `position` is the present one."""

    def __init__(self) -> None:
        self._states: list[Snapshot] = [Snapshot()]
        self._position = 0

    @property
    def can_undo(self) -> bool:
        return self._position > 0

    @property
    def can_redo(self) -> bool:
        return self._position + 1 < len(self._states)

    @property
    def present(self) -> Snapshot:
        return self._states[self._position]

    def push(self, state: Snapshot) -> None:
        """A new present; what had been undone is gone. A state equal to the present one is no step."""
        if state == self.present:
            return
        self._states = [*self._states[: self._position + 1], state][-(LIMIT + 1) :]
        self._position = len(self._states) - 1

    def back(self) -> Snapshot:
        self._position -= self.can_undo
        return self.present

    def forward(self) -> Snapshot:
        self._position += self.can_redo
        return self.present

    def layer_added(self, layer: int, style: LayerStyle) -> None:
        """Adding a map is no step, but undoing later steps must know the style it came with."""
        self._rewrite(lambda s: replace(s, styles={**s.styles, layer: style}))

    def layer_removed(self, layer: int) -> None:
        """Steps that concerned this layer alone vanish."""
        self._rewrite(lambda s: replace(s, styles={k: v for k, v in s.styles.items() if k != layer}))

    def _rewrite(self, change: Callable[[Snapshot], Snapshot]) -> None:
        kept: list[Snapshot] = []
        position = 0
        for number, state in enumerate(map(change, self._states)):
            if not kept or state != kept[-1]:
                kept.append(state)
            if number <= self._position:
                position = len(kept) - 1
        self._states, self._position = kept, position
