"""What a protocol is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from iterreg.dataset.base import Pair

__all__ = ["Kind", "Measure", "Protocol"]

Kind = Literal["dice", "hd95", "tre", "ndv", "sdlogj"]


@dataclass(frozen=True)
class Measure:
    """One measure under the name it has in the metrics json.

    Attributes
    ----------
    name, kind
        For example ``"DSC"`` and ``"dice"``.
    labels
        Of dice and hd95: the ids to average over. None: every label that occurs in the pair.
    source
        Of tre: what ``images`` is replaced by in an image's path, ``"landmarks"`` or ``"keypoints"``.
    """

    name: str
    kind: Kind
    labels: tuple[int, ...] | None = None
    source: str = "landmarks"


@dataclass(frozen=True)
class Protocol:
    """How a challenge evaluates.

    Attributes
    ----------
    name, version
        Its name here, and the ``eval_version`` its evaluator writes.
    labelled, landmarked
        What is measured without an evaluation config where a pair has labels, and where it has landmarks.
    always
        What is measured without a config on every pair.
    ndv_mask
        The image whose voxels above zero NDV is averaged over.
    interpolation
        How labels are warped.
    background
        Whether label 0 counts where no list of labels is given.
    epsilon
        What Dice adds to numerator and denominator.
    upper_quantile
        Names or kinds of measures whose robustness, called "30" in the json, is the 0.7 quantile instead of
        the 0.3 quantile.
    groups
        Further aggregates of Dice: their names, and the task whose pairs they average.
    suffixes
        File name endings of fields, in the evaluator's order of preference.
    long_names
        Whether a field may have its long name where the short one is allowed, and the short one is
        allowed for 0000 <- 0001 alone (today's Learn2Reg evaluator).
    counts_foldings
        Whether the json has ``num_foldings`` beside SDlogJ. It is always 0, because it is counted after the
        determinants were clipped: never quote it.
    """

    name: str
    version: str
    labelled: tuple[Measure, ...]
    landmarked: tuple[Measure, ...] = ()
    always: tuple[Measure, ...] = ()
    ndv_mask: Literal["fixed", "moving"] = "fixed"
    interpolation: Literal["nearest", "linear"] = "nearest"
    background: bool = False
    epsilon: float = 0.0
    upper_quantile: frozenset[str] = frozenset()
    groups: tuple[tuple[str, str], ...] = ()
    suffixes: tuple[str, ...] = (".nii.gz",)
    long_names: bool = False
    counts_foldings: bool = field(default=True, repr=False)

    def measures_of(self, pair: Pair) -> tuple[Measure, ...]:
        """What is measured on a pair when no evaluation config says so."""
        measures = self.always
        if pair.fixed.labels and pair.moving.labels:
            measures += self.labelled
        if pair.fixed.landmarks and pair.moving.landmarks:
            measures += self.landmarked
        return measures

    def quantile(self, measure: Measure) -> float:
        """The quantile of the case means that the evaluator reports as robustness."""
        return 0.7 if {measure.name, measure.kind} & self.upper_quantile else 0.3

    def field_stems(self, pair: Pair) -> tuple[str, ...]:
        """The names, without suffix, under which the evaluator looks for a pair's field."""
        short, long = f"disp_{pair.name}", f"disp_{pair.long_name}"
        if not self.long_names:
            return (short,)
        modalities = (pair.fixed.modality, pair.moving.modality)
        return (short, long) if modalities == ("0000", "0001") else (long,)
