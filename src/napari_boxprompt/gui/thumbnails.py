"""Small pictures of planes with what was found on them, made in the background for the rows that are seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from psygnal import Signal

from napari_boxprompt.errors import BoxPromptError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.images import Images
    from napari_boxprompt.normalization import Normalization

__all__ = ["SIDE", "Thumbnails", "thumbnail"]

JOB = "small pictures"
SIDE = 40
"""Longest side of a picture in pixels."""

MOST = 400
"""Pictures that are remembered, 2 MB; beyond it the oldest are forgotten."""

STRENGTH = 0.5
"""How much of an object's pixel is its colour."""

Picture: TypeAlias = "npt.NDArray[np.uint8]"
Key: TypeAlias = "tuple[tuple[int, ...], PlaneId, str]"


@dataclass(frozen=True)
class _Wish:
    """A picture that is wanted, as plain data for the worker."""

    key: Key
    plane: PlaneId
    overlay: npt.NDArray[np.float64]


def step(shape: tuple[int, int]) -> int:
    """Every how many pixels one is taken."""
    return max(1, -(-max(shape) // SIDE))


def thumbnail(
    pixels: npt.NDArray[np.generic],
    overlay: npt.NDArray[np.float64],
    contrast: Normalization | None,
) -> Picture:
    """Small picture of a plane, with its objects in colour.

    Parameters
    ----------
    pixels : numpy.ndarray
        ``(H, W, C)``.
    overlay : numpy.ndarray
        What was found, ``(h, w, 4)``: every `step`-th pixel, as RGB in 0..1 times opacity, and opacity.
    contrast : Normalization, optional
        What is black and what is white; the darkest and the brightest 1 % by default.

    Returns
    -------
    numpy.ndarray
        uint8 ``(h, w, 3)``.
    """
    height, width, _ = overlay.shape
    every = step((pixels.shape[0], pixels.shape[1]))
    offsets = sorted({0, every // 2, every - 1})  # a few pixels of each block: less noise than one
    parts = [pixels[a::every, b::every][:height, :width].astype(float) for a in offsets for b in offsets]
    low = tuple(min(part.shape[i] for part in parts) for i in range(2))
    small = np.mean([part[: low[0], : low[1]] for part in parts], axis=0)
    small = np.pad(small, ((0, height - low[0]), (0, width - low[1]), (0, 0)), mode="edge")
    if contrast is None:
        dark, bright = np.percentile(small, [1, 99])
        grey = ((small - dark) / max(float(bright - dark), 1e-9)).clip(0, 1)
    else:
        grey = contrast.apply(small)
    if grey.shape[2] != 3:
        grey = np.repeat(grey[..., :1], 3, axis=2)
    picture = grey * (1 - overlay[..., 3:]) + overlay[..., :3]
    return np.asarray((picture * 255).round(), np.uint8)


def make_pictures(
    stop: Stop, images: Images, wishes: Sequence[_Wish], contrast: Normalization | None
) -> Generator[tuple[Key, Picture | None], None, None]:
    """Make pictures, in a worker; None for a plane that cannot be read."""
    for wish in wishes:
        if stop.is_set():
            return
        try:
            picture = thumbnail(images.read(wish.plane), wish.overlay, contrast)
        except BoxPromptError:  # whoever shows or predicts the plane says why
            picture = None
        yield wish.key, picture


class Thumbnails:
    """Pictures of the planes of the newest result of each image.

    Parameters
    ----------
    session, jobs
        See the classes.

    Attributes
    ----------
    made : psygnal.Signal
        Emitted with a `PlaneId` whose picture is there.
    """

    made = Signal(object)

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self._session, self._jobs = session, jobs
        self._known: dict[Key, Picture | None] = {}
        self._waiting: list[PlaneId] = []

    def get(self, plane: PlaneId) -> Picture | None:
        """The picture of a plane, None while there is none."""
        result = self._session.results.of(plane)
        return None if result is None else self._known.get(_key(result, plane))

    def want(self, planes: Sequence[PlaneId]) -> None:
        """Have the pictures of these planes made, and of no others that were wanted before."""
        known = {plane: self._session.results.of(plane) for plane in planes}
        self._waiting = [
            plane for plane, one in known.items() if one is not None and _key(one, plane) not in self._known
        ]
        if self._waiting and not self._jobs.running(JOB):
            self._start(self._waiting[0].image)

    def _start(self, image: str) -> None:
        """Make those of one image; the others come next."""
        result = self._session.results.latest[image]
        wishes = [_wish(result, plane) for plane in self._waiting if plane.image == image]
        self._waiting = [plane for plane in self._waiting if plane.image != image]
        # That of another image would be wrong here; without one, each plane is as bright as it can be.
        contrast = self._session.contrast if result.view == self._session.view else None
        work = partial(make_pictures, images=result.view.images(), wishes=wishes, contrast=contrast)
        self._jobs.start(JOB, work, on_event=self._on_picture, on_end=self._on_end)

    def _on_picture(self, event: object) -> None:
        if not isinstance(event, tuple):
            return
        key, picture = event
        self._known[key] = picture
        for old in list(self._known)[: max(0, len(self._known) - MOST)]:
            del self._known[old]
        self.made.emit(key[1])

    def _on_end(self) -> None:
        self.want(self._waiting)


def _key(result: Result, plane: PlaneId) -> Key:
    """What is accepted may have been painted on before."""
    return tuple(map(id, result.together)), plane, result.status.get(plane, "")


def _wish(result: Result, plane: PlaneId) -> _Wish:
    """Read what the worker must not: labels of the layers, every few pixels, and their colours."""
    every = step(result.view.shape)
    offset = every // 2 if every // 2 < min(result.view.shape) else 0
    height, width = (len(range(offset, side, every)) for side in result.view.shape)
    overlay = np.zeros((height, width, 4))
    for one in result.together:  # as they lie over each other in the viewer
        some = one.plane(plane)[offset::every, offset::every]
        numbers, places = np.unique(some, return_inverse=True)
        colors = [(*one.color_of(int(number)), 1) if number else (0, 0, 0, 0) for number in numbers]
        tint = STRENGTH * np.array(colors, float)[places].reshape(overlay.shape)
        overlay = overlay * (1 - tint[..., 3:]) + tint
    return _Wish(_key(result, plane), plane, overlay)
