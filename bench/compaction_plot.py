"""What the two hours of `compaction.py` were like, as one small SVG.

Belongs here: samples and drawing them. Does not: taking them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Sample:
    """Payments at a minute of the hour: partitions, files that a reader opens, snapshots, a scan's time."""

    minutes: float
    partitions: int
    files: int
    vectors: int
    snapshots: int
    scan_s: float

    @property
    def opened(self) -> int:
        """Files that a scan of everything opens."""
        return self.files + self.vectors

    def __str__(self) -> str:
        return f"{self.files:,} data files, {self.vectors:,} delete files, scan {self.scan_s:.2f} s"


def plot(path: Path, without: Sequence[Sample], beside: Sequence[Sample]) -> None:
    """Draw both hours side by side; the same samples give the same bytes."""
    first = without[0].scan_s
    panels: dict[str, Callable[[Sample], float]] = {
        "data files": lambda sample: sample.files,
        "delete files": lambda sample: sample.vectors,
        "scan of a fixed hour, relative": lambda sample: sample.scan_s / first,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "paywave", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        for axes, (title, value) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            for name, samples, style in (("without", without, "--"), ("beside compaction", beside, "-")):
                axes.plot([s.minutes for s in samples], [value(s) for s in samples], style, label=name)
            axes.set(title=title, xlabel="simulated minutes", ylim=(0, None))
        figure.axes[0].legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
