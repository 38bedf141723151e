"""Pictures of boxes, predictions and references that a person understands at a glance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import Box

__all__ = ["BOX", "ORACLE", "PREDICTION", "REFERENCE", "Panel", "comparison", "contact_sheet"]

BOX, PREDICTION, REFERENCE, ORACLE = (255, 214, 64), (64, 200, 255), (255, 96, 160), (120, 230, 110)
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
    side: int = 560,
) -> Image.Image:
    """One image as it is, and beside it with the outlines of three masks.

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
    words = "blue: without prompt, green: frozen model with true boxes, pink: reference"
    lines = ((oracle, ORACLE), (reference, REFERENCE), (prediction, PREDICTION))
    panels = (Panel(image, "the image"), Panel(image, words, lines=lines))
    return contact_sheet(title, [("", panels)], side)
