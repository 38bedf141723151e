"""One brightness scale for a whole data set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_boxprompt.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.images import Images

__all__ = ["Normalization", "sample_values"]

_SAMPLE_PIXELS = 1 << 18
_MIDDLE, _LEAST_GAMMA = 0.5, 0.4
_ALMOST_ALL = 0.99


class Normalization(BaseModel):
    """Maps pixel values so that `low` becomes 0 and `high` becomes 1, clips the rest, and applies `gamma`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: tuple[float, ...] = Field(description="Value that becomes 0, one entry for grey or three for RGB.")
    high: tuple[float, ...] = Field(description="Value that becomes 1, as many entries as for low.")
    percentiles: tuple[float, float] | None = Field(
        default=None,
        description="Percentiles of the pixel values that low and high are; None where chosen by hand.",
    )
    gamma: float = Field(
        default=1.0, ge=0.1, le=10.0, description="Exponent of the scaled values; below 1 lifts dark objects."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.low) != len(self.high) or len(self.low) not in (1, 3):
            raise ValueError("low and high need one entry each, or three each")
        if any(high <= low for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("high must be larger than low")
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError("percentiles must rise and lie between 0 and 100")
        return self

    @classmethod
    def fit(
        cls,
        images: Images,
        planes: Iterable[PlaneId] | None = None,
        percentiles: tuple[float, float] = (0.5, 99.8),
        max_planes: int = 32,
    ) -> Normalization:
        """Measure the brightness of images.

        At most `max_planes` planes, evenly spaced, are read, and about 262 000 evenly spaced pixels of each,
        so the same images always give the same result. NaN and infinities are ignored; values that are all
        the same become 0. Where all but a few pixels have one value, such as a masked background, both
        percentiles are this value; then those of the other pixels count, and the one value is among the
        limits. In planes of more than 262 000 pixels, objects that are smaller than the steps between the
        pixels looked at may be missed.

        Parameters
        ----------
        images : Images
            The images.
        planes : iterable of PlaneId, optional
            The planes to measure, all by default.
        percentiles : tuple of float
            Lower and upper percentile of every channel.
        max_planes : int
            How many planes to read at most.

        Raises
        ------
        ImageError
            If there is no plane, a file cannot be read, or grey and colour images are mixed.
        """
        chosen = tuple(images.planes if planes is None else planes)
        if not chosen:
            raise ImageError("There is no image to measure the brightness of; open at least one.")
        samples: list[npt.NDArray[Any]] = []
        for plane in _spread(chosen, max_planes):
            sample = _sample(images.read(plane))
            if samples and sample.shape[1] != samples[0].shape[1]:
                raise ImageError(
                    f"{plane} has {sample.shape[1]} channels but {chosen[0]} has {samples[0].shape[1]}; "
                    "convert the images to all grey or all colour, or choose one channel with --channel."
                )
            samples.append(sample)
        limits = [
            _limits(np.concatenate([sample[:, channel] for sample in samples]), percentiles)
            for channel in range(samples[0].shape[1])
        ]
        return cls(
            low=tuple(low for low, _ in limits),
            high=tuple(high for _, high in limits),
            percentiles=percentiles,
        )

    def lifted(self, images: Images, boxes: BoxSet) -> Normalization:
        """Choose `gamma` so that dark objects can be seen, from the brightness inside drawn boxes.

        One linear scale must hold the brightest object of a data set, which leaves little for its darkest:
        on a fluorescence stack the frozen model then misses most of them. The exponent puts the lower
        quartile of the objects' median brightness at one half, and never darkens.

        Parameters
        ----------
        images : Images
            At most 32 of its boxed planes are read.
        boxes : BoxSet
            Drawn boxes, inside the planes.
        """
        planes = [plane for plane in boxes.boxed_planes if boxes.on(plane)]
        linear = self.model_copy(update={"gamma": 1.0})
        medians: list[float] = []
        for plane in _spread(planes, 32):
            pixels = images.read(plane)
            for box in boxes.on(plane):
                rows = slice(math.floor(box.y0), math.ceil(box.y1))
                columns = slice(math.floor(box.x0), math.ceil(box.x1))
                medians.append(float(np.median(linear.apply(pixels[rows, columns]))))
        dark = float(np.percentile(medians, 25)) if medians else 1.0
        if dark >= _MIDDLE:
            return linear
        gamma = math.log(_MIDDLE) / math.log(max(dark, 1e-6))
        return self.model_copy(update={"gamma": max(_LEAST_GAMMA, round(gamma, 3))})

    def apply(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return pixels on the scale of the model.

        Parameters
        ----------
        pixels : ndarray, shape (H, W, C)
            A plane or a crop of one, any real type; C is the number of entries of `low`.

        Returns
        -------
        ndarray, shape (H, W, 3), float32
            Values from 0 to 1; grey is repeated. NaN and minus infinity become 0, infinity 1.

        Raises
        ------
        ImageError
            If the number of channels is not the one measured.
        """
        if pixels.ndim != 3 or pixels.shape[2] != len(self.low):
            raise ImageError(
                f"The image has the shape {pixels.shape} but the brightness was measured on {len(self.low)} "
                "channel(s); use images of the same kind, or choose a channel with --channel."
            )
        # float32 holds 8- and 16-bit values exactly; wider types lose small differences on a large offset.
        small = pixels.dtype.kind == "b" or pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32
        work: npt.NDArray[Any] = pixels.astype(np.float32 if small else np.float64)
        low = np.asarray(self.low, dtype=work.dtype)
        high = np.asarray(self.high, dtype=work.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(work, low, out=work)
            np.divide(work, high - low, out=work)
        np.clip(work, 0.0, 1.0, out=work)
        np.nan_to_num(work, copy=False, nan=0.0)
        if self.gamma != 1.0:
            np.power(work, self.gamma, out=work)
        scaled = work.astype(np.float32, copy=False)
        return np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled

    def misses(self, pixels: npt.NDArray[Any]) -> bool:
        """Whether almost all pixels lie outside the scale, as those of another number type or unit do.

        Pixels that are all the same are an empty plane, and say nothing.

        Parameters
        ----------
        pixels : ndarray, shape (H, W, C)
            A plane, of which some are looked at; C is the number of entries of `low`.
        """
        values = _sample(pixels).astype(np.float64)
        values = values[np.isfinite(values).all(axis=1)]
        if values.size == 0 or values.min() == values.max():
            return False
        outside = (values < self.low) | (values > self.high)
        return float(outside.mean()) > _ALMOST_ALL


def sample_values(images: Images, max_planes: int = 8) -> npt.NDArray[np.float32]:
    """Values of some pixels, for a histogram.

    Parameters
    ----------
    images : Images
        The images.
    max_planes : int
        How many planes are read at most, evenly spaced; of each, about 262 000 pixels are taken.

    Returns
    -------
    ndarray, shape (N,), float32
        Finite values of all channels together.

    Raises
    ------
    ImageError
        If a file cannot be read.
    """
    samples = [_sample(images.read(plane)).ravel() for plane in _spread(images.planes, max_planes)]
    values = np.concatenate([sample.astype(np.float32) for sample in samples])
    finite: npt.NDArray[np.float32] = values[np.isfinite(values)]
    return finite


def _spread(planes: Sequence[PlaneId], most: int) -> list[PlaneId]:
    """Planes evenly spaced over all."""
    count = min(len(planes), max(1, most))
    return [planes[i] for i in np.linspace(0, len(planes) - 1, count).round().astype(int)]


def _sample(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return evenly spaced pixels ``(N, C)``."""
    step = max(1, math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / _SAMPLE_PIXELS)))
    sample = pixels[::step, ::step].reshape(-1, pixels.shape[2])
    if sample.dtype.kind == "b" or sample.dtype == np.float16:
        return sample.astype(np.float32)
    return np.array(sample)


def _limits(values: npt.NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, percentiles))
    if not high > low:
        others = values[values != low]
        if others.size:
            least, most = (float(value) for value in np.percentile(others, percentiles))
            low, high = min(low, least), max(high, most)
    if not high > low:
        high = low + max(1.0, abs(low) * 1e-6)
    return low, high
