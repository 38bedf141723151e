"""Pictures of boxes, predictions and references that a person understands at a glance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from napari_boxprompt.boxes import Box, PlaneId

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["BOX", "ORACLE", "PREDICTION", "REFERENCE", "Panel", "comparison", "contact_sheet"]

BOX, PREDICTION, REFERENCE, ORACLE = (255, 214, 64), (64, 200, 255), (255, 96, 160), (120, 230, 110)
LEAST_PART = 40
"""Pixels: what is smaller is not enlarged further, since there is nothing more to see."""

_GAP, _CAPTION, _INK, _PAPER = 12, 26, (235, 235, 235), (24, 26, 30)


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Parameters
    ----------
    image : numpy.ndarray
        ``(H, W, 3)`` floats in 0..1.
    caption : str
        Words under it.
    boxes : sequence of Box
        Drawn as yellow frames.
    filled : numpy.ndarray, optional
        Mask shown as a transparent blue area.
    outlined : numpy.ndarray, optional
        Label image or mask whose outlines are drawn in pink.
    lines : sequence of (numpy.ndarray, tuple of int)
        More masks whose outlines are drawn, each in its colour, later ones over earlier ones.
    """

    image: npt.NDArray[np.float32]
    caption: str
    boxes: Sequence[Box] = field(default_factory=tuple)
    filled: npt.NDArray[np.generic] | None = None
    outlined: npt.NDArray[np.generic] | None = None
    lines: Sequence[tuple[npt.NDArray[np.generic], tuple[int, int, int]]] = field(default_factory=tuple)

    def draw(self, side: int) -> Image.Image:
        """Picture with its longest side `side`."""
        height, width = self.image.shape[:2]
        zoom = side / max(height, width)
        size = (round(width * zoom), round(height * zoom))
        pixels = Image.fromarray((self.image * 255).round().astype(np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        canvas = np.asarray(pixels, np.float32).copy()
        if self.filled is not None:
            labels = _enlarged(self.filled, size)
            canvas[labels > 0] = 0.55 * canvas[labels > 0] + 0.45 * np.array(PREDICTION)
            canvas[find_boundaries(labels, mode="inner")] = PREDICTION
        if self.outlined is not None:
            canvas[find_boundaries(_enlarged(self.outlined, size), mode="inner")] = REFERENCE
        for mask, colour in self.lines:
            canvas[find_boundaries(_enlarged(mask, size), mode="inner")] = colour
        picture = Image.fromarray(canvas.round().astype(np.uint8))
        pen = ImageDraw.Draw(picture)
        for box in self.boxes:
            corners = [v * zoom for v in (box.x0, box.y0, box.x1, box.y1)]
            pen.rectangle([corners[0], corners[1], corners[2] - 1, corners[3] - 1], outline=BOX, width=2)
        return picture


def _enlarged(labels: npt.NDArray[np.generic], size: tuple[int, int]) -> npt.NDArray[np.int32]:
    picture = Image.fromarray(labels.astype(np.int32))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST))


def contact_sheet(title: str, rows: Sequence[tuple[str, Sequence[Panel]]], side: int = 320) -> Image.Image:
    """Rows of panels, each row under a heading.

    Parameters
    ----------
    title : str
        Line at the top.
    rows : sequence of (str, sequence of Panel)
        Heading and panels of each row.
    side : int
        Longest side of a panel in pixels.
    """
    font, small = ImageFont.load_default(19), ImageFont.load_default(14)
    drawn = [(heading, [(panel.caption, panel.draw(side)) for panel in panels]) for heading, panels in rows]
    widths = [sum(p.width + _GAP for _, p in panels) + _GAP for _, panels in drawn]
    width = max(*widths, int(font.getlength(title)) + 2 * _GAP)
    heights = [_CAPTION + max(p.height for _, p in panels) + _CAPTION + _GAP for _, panels in drawn]
    sheet = Image.new("RGB", (width, 48 + sum(heights)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 12), title, fill=_INK, font=font)
    top = 48
    for (heading, panels), height in zip(drawn, heights, strict=True):
        pen.text((_GAP, top), heading, fill=_INK, font=small)
        left = _GAP
        for caption, picture in panels:
            sheet.paste(picture, (left, top + _CAPTION))
            pen.text((left, top + _CAPTION + picture.height + 4), caption, fill=_INK, font=small)
            left += picture.width + _GAP
        top += height
    return sheet


def comparison(
    title: str,
    image: npt.NDArray[np.float32],
    prediction: npt.NDArray[np.bool_],
    oracle: npt.NDArray[np.bool_],
    reference: npt.NDArray[np.bool_],
    side: int = 520,
) -> Image.Image:
    """One image beside the outlines of two masks, each with the reference.

    Where all masks lie in a part of the image, this part is shown enlarged, and a frame says where it is.

    Parameters
    ----------
    title : str
        Line at the top.
    image : numpy.ndarray
        ``(H, W, 3)`` floats in 0..1.
    prediction, oracle, reference : numpy.ndarray
        bool ``(H, W)``: without prompt, of the frozen model with true boxes, and as it should be.
    side : int
        Longest side of each picture in pixels.
    """
    y0, x0, y1, x1 = _extent(prediction | oracle | reference)
    part = np.s_[y0:y1, x0:x1]
    panels = [Panel(image, "the image")]
    if (y1 - y0, x1 - x0) != image.shape[:2]:
        frame = Box(y0, x0, y1, x1, PlaneId(""))
        panels = [Panel(image, "the image", boxes=[frame]), Panel(image[part], "the part in the frame")]
    for mask, colour, words in (
        (prediction, PREDICTION, "blue: without prompt, pink: reference"),
        (oracle, ORACLE, "green: frozen model with true boxes, pink: reference"),
    ):
        lines = ((reference[part], REFERENCE), (mask[part], colour))
        panels.append(Panel(image[part], words, lines=lines))
    return contact_sheet(title, [("", panels)], side)


def _extent(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Part (y0, x0, y1, x1) that shows a mask and what is around; all, if that is most of it or nothing."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, height, width
    side = round(1.5 * max(rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0], LEAST_PART))
    if side > 0.7 * max(height, width):
        return 0, 0, height, width
    tall, wide = min(side, height), min(side, width)
    y0 = int(np.clip((rows[0] + rows[-1] + 1 - tall) // 2, 0, height - tall))
    x0 = int(np.clip((columns[0] + columns[-1] + 1 - wide) // 2, 0, width - wide))
    return y0, x0, y0 + tall, x0 + wide
