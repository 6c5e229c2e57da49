"""What an LDDMM parameter file may say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from iterreg.errors import InputError
from iterreg.toml_parameters import setting

if TYPE_CHECKING:
    from iterreg.lddmm.reproducing_kernel import ReproducingKernel

__all__ = ["Kernel", "Measure", "Optimizer", "Pyramid", "Settings"]


@dataclass(frozen=True)
class Pyramid:
    """Levels from coarse to fine; every list has one value for each.

    Attributes
    ----------
    image_spacing_mm
        Where the images are compared; 0 means the images' own spacing. *Raising* it saves time with its third
        power and loses detail.
    velocity_spacing_mm
        Lattice of the velocity. *Raising* it saves the flow's time; it should stay below twice the finest
        length of the kernel.
    iterations
        The most iterations of each level.
    """

    image_spacing_mm: tuple[float, ...] = setting((4.0, 2.0, 1.0), minimum=0, maximum=64)
    velocity_spacing_mm: tuple[float, ...] = setting((4.0, 4.0, 4.0), above=0, maximum=64)
    iterations: tuple[int, ...] = setting((20, 40, 20), minimum=0)

    def __post_init__(self) -> None:
        counts = (len(self.image_spacing_mm), len(self.velocity_spacing_mm), len(self.iterations))
        if len(set(counts)) > 1 or not counts[0]:
            raise InputError(
                "image_spacing_mm, velocity_spacing_mm and iterations need one value per level each, "
                f"got {counts[0]}, {counts[1]} and {counts[2]}"
            )


@dataclass(frozen=True)
class Measure:
    """The similarity.

    Attributes
    ----------
    name
        lncc: local normalised cross-correlation; ssd: squared differences, for one contrast and scale.
    radius_mm
        Half width of lncc's box at each level, or one value for all; at least one voxel. *Raising* it makes
        the measure smoother and less sensitive to fine detail. Under a mask the boxes count whose centres
        lie in it, so that voxels up to this far beyond it take part.
    epsilon
        Variance, relative to the image's own, that counts as flat.
    power
        1: squared correlation; 2: its square, which trusts regions that already agree more.
    middle_weight, bright_weight
        Weights, at each level or one for all, of squared differences of two tissue maps beside the measure:
        of the middle and the brightest of three classes made from each image's intensities (grey and white
        matter in T1), each beside the class of the other image that it agrees with; maps that hardly agree
        with any are left out. *Raising* them fits the borders of tissues more closely; 0: none.
    """

    name: Literal["lncc", "ssd"] = "lncc"
    radius_mm: tuple[float, ...] = setting((8.0, 4.0, 2.0), above=0, maximum=64)
    epsilon: float = setting(1e-3, above=0, maximum=10)
    power: Literal[1, 2] = 1
    middle_weight: tuple[float, ...] = setting((0.0,), minimum=0, maximum=1000)
    bright_weight: tuple[float, ...] = setting((0.0,), minimum=0, maximum=1000)

    @property
    def uses_tissues(self) -> bool:
        """Whether tissue maps are compared at any level."""
        return any(weight > 0 for weight in (*self.middle_weight, *self.bright_weight))


@dataclass(frozen=True)
class Kernel:
    """The reproducing kernel of the velocities.

    Attributes
    ----------
    name
        sobolev: Green's function of ``(1 - length^2 Laplacian)^order``; gaussians: a weighted sum.
    length_mm, order
        Of the Sobolev kernel; an order above 5/2 makes every flow a diffeomorphism.
    sigmas_mm, weights
        Of the Gaussians; the weights are the shares of K(0).
    """

    name: Literal["sobolev", "gaussians"] = "sobolev"
    length_mm: float = setting(4.0, above=0, maximum=100)
    order: int = setting(3, minimum=3, maximum=10)
    sigmas_mm: tuple[float, ...] = setting((20.0, 10.0, 5.0, 3.0), above=0, maximum=200)
    weights: tuple[float, ...] = setting((0.1, 0.2, 0.2, 0.5), above=0)

    def __post_init__(self) -> None:
        if not self.sigmas_mm or len(self.sigmas_mm) != len(self.weights):
            raise InputError(
                f"sigmas_mm and weights need one value per Gaussian each, got {len(self.sigmas_mm)} and "
                f"{len(self.weights)}"
            )

    def build(self) -> ReproducingKernel:
        """The kernel, in millimetres."""
        # Here, not above: settings are read where no kernel is compiled.
        from iterreg.lddmm.reproducing_kernel import GaussianSum, Sobolev

        if self.name == "sobolev":
            return Sobolev(self.length_mm, self.order)
        return GaussianSum(self.sigmas_mm, self.weights)


@dataclass(frozen=True)
class Optimizer:
    """Descent along the normalised natural gradient, with momentum and a trust radius.

    Attributes
    ----------
    step_mm
        Largest change of the velocity in one iteration, before momentum. *Raising* it is faster and rougher.
    momentum
        Share of the last update that is kept.
    evenness
        By how much more the slowest places may move than the plain gradient lets them; 0 leaves it plain.
        *Raising* it converges in fewer iterations, and lets noise move more.
    evenness_mm
        Reach over which places share their speed.
    tolerance
        A level ends when the energy fell by less than this share of itself over `window` iterations.
    window
        Iterations that the tolerance looks back.
    calming
        So many iterations of the last level (half of them at most) end with a look for places where the field
        would fold, and make them less steep at once: their surroundings then adapt to it. What is left is
        unfolded at the end. *Raising* it gives more overlap; a look takes about as long as an iteration.
    """

    step_mm: float = setting(0.3, above=0, maximum=10)
    momentum: float = setting(0.8, minimum=0, maximum=0.99)
    evenness: float = setting(10.0, minimum=0, maximum=1000)
    evenness_mm: float = setting(8.0, above=0, maximum=200)
    tolerance: float = setting(1e-3, minimum=0, maximum=1)
    window: int = setting(8, minimum=2)
    calming: int = setting(12, minimum=0)

    def looks(self, iterations: int) -> int:
        """How many of a last level's iterations look for folds."""
        return min(self.calming, iterations // 2)


@dataclass(frozen=True)
class Settings:
    """A whole parameter file.

    Attributes
    ----------
    energy_weight
        Weight of half the squared geodesic length against the dissimilarity. *Raising* it gives smoother
        fields and less overlap.
    symmetric
        Compare both images half-way, so that swapping them inverts the field; else in the fixed image.
    time_steps
        Steps of the whole geodesic (symmetric: half of them to either side).
    scale_to_brain
        Multiply every length by the size of the fixed foreground relative to a human brain's.
    winsorize
        Quantiles of the foreground's intensities at which they are clipped. The lower one takes the
        background with it: the step from a stripped brain to nothing then weighs no more than that from
        cortex to fluid.
    margin_mm
        Room around both foregrounds in which images are compared.
    padding_mm
        Room around that box for the velocity.
    """

    energy_weight: float = setting(3.0, minimum=0)
    symmetric: bool = True
    time_steps: int = setting(4, minimum=1, maximum=200)
    scale_to_brain: bool = True
    winsorize: tuple[float, float] = setting((0.05, 0.995), minimum=0, maximum=1)
    margin_mm: float = setting(6.0, minimum=0, maximum=200)
    padding_mm: float = setting(16.0, minimum=0, maximum=200)
    pyramid: Pyramid = field(default_factory=Pyramid)
    similarity: Measure = field(default_factory=Measure)
    kernel: Kernel = field(default_factory=Kernel)
    optimizer: Optimizer = field(default_factory=Optimizer)

    def __post_init__(self) -> None:
        levels = len(self.pyramid.iterations)
        for name in ("radius_mm", "middle_weight", "bright_weight"):
            values = getattr(self.similarity, name)
            if len(values) not in (1, levels):
                raise InputError(
                    f"similarity.{name} needs one value, or one for each of the {levels} levels, "
                    f"got {len(values)}"
                )
        if not self.winsorize[0] < self.winsorize[1]:
            raise InputError(f"winsorize must be two rising quantiles, got {list(self.winsorize)}")
        if self.symmetric and self.time_steps % 2:
            raise InputError(f"time_steps must be even when symmetric, got {self.time_steps}")

    def each_level(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """One value for each level of a list that may have one for all."""
        return values if len(values) > 1 else values * len(self.pyramid.iterations)
