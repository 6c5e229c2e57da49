"""A registration's outcome as the geodesic it is: saved, read and integrated again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.npz import DAMAGE
from iterreg.jobs.atomic import atomic_path
from iterreg.lddmm.geodesic import Geodesic, shoot, shoot_apart
from iterreg.lddmm.lattice import Interpolation, Lattice
from iterreg.lddmm.objective import inner
from iterreg.lddmm.reproducing_kernel import GaussianSum, ReproducingKernel, Smoother, Sobolev
from iterreg.text_files import regular
from iterreg.volume import Grid

__all__ = ["Transform"]

Array = NDArray[Any]

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Transform:
    """The geodesic between two images.

    Attributes
    ----------
    momentum
        (3, x, y, z) float32 on `lattice`: half-way when symmetric, else at the fixed image.
    lattice
        Of the velocities, in the fixed frame.
    kernel
        Makes velocities of momenta.
    symmetric
        Whether the momentum stands half-way.
    time_steps
        Steps of the whole geodesic.
    fixed, moving
        The images' grids.
    threads
        Of the Fourier transforms.
    """

    momentum: Array
    lattice: Lattice
    kernel: ReproducingKernel
    symmetric: bool
    time_steps: int
    fixed: Grid
    moving: Grid
    threads: int = 1

    @cached_property
    def smoother(self) -> Smoother:
        """The kernel on the lattice."""
        return Smoother(self.kernel, self.lattice, threads=self.threads, dtype=self.momentum.dtype)

    @cached_property
    def velocity(self) -> Array:
        """(3, x, y, z) mm: the velocity of the momentum."""
        return self.smoother(self.momentum)

    @property
    def distance(self) -> float:
        """Length of the geodesic: the norm of its velocity, which does not change along it."""
        return float(np.sqrt(max(inner(self.momentum, self.velocity), 0.0)))

    @cached_property
    def _paths(self) -> tuple[Geodesic | None, Geodesic]:
        """The geodesic from where the momentum stands to the fixed and to the moving image."""
        if not self.symmetric:
            whole = shoot(self.momentum, self.smoother, steps=self.time_steps, velocity=self.velocity)
            return None, whole
        return shoot_apart(self.momentum, self.smoother, steps=self.time_steps // 2, velocity=self.velocity)

    @cached_property
    def _back(self) -> Array | None:
        """From the fixed image to where the momentum stands; None where that is the fixed image itself."""
        to_fixed, _ = self._paths
        return None if to_fixed is None else to_fixed.backward()

    def displacement(self) -> Array:
        """(3, x, y, z) lattice spacings: from the fixed image to the moving one."""
        return self._paths[1].forward(self._back)

    def inverse_displacement(self) -> Array:
        """(3, x, y, z) lattice spacings: from the moving image to the fixed one, both in the fixed frame."""
        to_fixed, to_moving = self._paths
        back = to_moving.backward()
        return back if to_fixed is None else to_fixed.forward(back)

    def to_meeting(self) -> Array:
        """(3, x, y, z) lattice spacings: from the fixed image to where the momentum stands."""
        return np.zeros_like(self.momentum) if self._back is None else self._back

    def field(self) -> DisplacementField:
        """The map from fixed to moving voxels."""
        return self._through_fixed(self._on_fixed_grid(self.displacement()))

    def inverse(self) -> DisplacementField:
        """The map from moving to fixed voxels."""
        back = DisplacementField(self._on_fixed_grid(self.inverse_displacement()), self.fixed, self.fixed)
        return DisplacementField.identity(self.moving, self.fixed).compose(back)

    def _through_fixed(self, voxels: Array) -> DisplacementField:
        """A field to the moving grid from displacements in fixed voxels."""
        if self.fixed == self.moving:
            return DisplacementField(voxels, self.fixed, self.moving)
        matrix = self.fixed.to(self.moving)
        identity = DisplacementField.identity(self.fixed, self.moving).vectors
        turned = np.einsum("cd,xyzd->xyzc", matrix[:3, :3], voxels)
        return DisplacementField((identity + turned).astype(np.float32), self.fixed, self.moving)

    def _on_fixed_grid(self, displacement: Array) -> Array:
        """(X, Y, Z, 3) float32 fixed voxels."""
        points = Lattice((0.0, 0.0, 0.0), self.fixed.spacing, self.fixed.shape)
        unit = np.asarray(self.lattice.spacing) / np.asarray(self.fixed.spacing)
        voxels = displacement * unit.astype(displacement.dtype)[:, None, None, None]
        return Interpolation(self.lattice, points, displacement.dtype)(voxels)

    def save(self, path: Path) -> None:
        """Write an ``.npz`` from which `load` makes the same transform."""
        about = {
            "format": _FORMAT,
            "kernel": {type(self.kernel).__name__: asdict(cast(Any, self.kernel))},
            "lattice": asdict(self.lattice),
            "symmetric": self.symmetric,
            "time_steps": self.time_steps,
            "fixed": {"shape": self.fixed.shape, "affine": self.fixed.affine.tolist()},
            "moving": {"shape": self.moving.shape, "affine": self.moving.affine.tolist()},
        }
        with atomic_path(path) as part, part.open("wb") as stream:
            np.savez(stream, momentum=self.momentum, about=np.array(json.dumps(about)))

    @classmethod
    def load(cls, path: Path, *, threads: int = 1) -> Transform:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged or something else.
        """
        with regular(path):
            try:
                with np.load(path, allow_pickle=False) as content:
                    momentum, about = content["momentum"], json.loads(str(content["about"]))
                if about["format"] != _FORMAT:
                    raise ValueError(f"format {about['format']}")
                ((name, values),) = about["kernel"].items()
                kernel = _kernel(name, values)
                lattice = Lattice(**{key: tuple(value) for key, value in about["lattice"].items()})
                grids = [
                    Grid(tuple(about[side]["shape"]), about[side]["affine"]) for side in ("fixed", "moving")
                ]
                if momentum.shape != (3, *lattice.shape):
                    raise ValueError(f"momentum of shape {momentum.shape}")
            except DAMAGE as error:
                raise InputError(
                    f"{path}: is not a geodesic that iterreg saved ({type(error).__name__}: {error}); "
                    "give the .npz that a run with save_momentum wrote"
                ) from error
        return cls(
            momentum, lattice, kernel, about["symmetric"], about["time_steps"], grids[0], grids[1], threads
        )


def _kernel(name: str, values: dict[str, Any]) -> ReproducingKernel:
    if name == "Sobolev":
        return Sobolev(float(values["length"]), int(values["order"]))
    if name == "GaussianSum":
        return GaussianSum(tuple(values["sigmas"]), tuple(values["weights"]))
    raise ValueError(f"kernel {name}")
