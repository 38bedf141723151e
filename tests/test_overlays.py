from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.overlays import BOX, PREDICTION, REFERENCE, Panel, contact_sheet

GREY = np.full((40, 80, 3), 0.4, np.float32)
PLANE = PlaneId("a")


def pixels(panel: Panel, side: int = 160) -> np.ndarray:
    return np.asarray(panel.draw(side))


def of_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == colour).all(axis=-1)


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@pytest.mark.parametrize(("side", "size"), [(160, (80, 160)), (80, (40, 80)), (40, (20, 40))])
def test_plain_picture_is_scaled(side: int, size: tuple[int, int]) -> None:
    picture = pixels(Panel(GREY, ""), side)
    assert picture.shape == (*size, 3)
    assert (picture == 102).all()


def test_boxes_are_yellow_frames_of_their_size() -> None:
    picture = pixels(Panel(GREY, "", boxes=[Box(10, 20, 30, 60, PLANE)]))
    frame = of_colour(picture, BOX)
    assert extent(frame) == (20, 40, 60, 120)
    assert frame[20:22, 40:120].all()
    assert frame[20:60, 118:120].all()
    assert not frame[22:58, 42:118].any()
    assert (picture[22:58, 42:118] == 102).all()
    assert frame.sum() == 40 * 80 - 36 * 76


def test_prediction_is_a_blue_veil_with_a_rim() -> None:
    mask = np.zeros((40, 80), bool)
    mask[10:30, 20:60] = True
    picture = pixels(Panel(GREY, "", filled=mask))
    rim = of_colour(picture, PREDICTION)
    assert extent(rim) == (20, 40, 60, 120)
    assert not rim[22:58, 42:118].any()
    veil = np.round(0.55 * 102 + 0.45 * np.array(PREDICTION))
    assert (picture[30, 80] == veil).all()
    assert (picture[5, 5] == 102).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.uint32])
def test_reference_is_a_pink_outline_of_each_object(dtype: type) -> None:
    labels = np.zeros((40, 80), dtype)
    labels[10:30, 20:40] = 1
    labels[10:30, 40:60] = 1 if dtype is bool else 2
    outline = of_colour(pixels(Panel(GREY, "", outlined=labels)), REFERENCE)
    assert extent(outline) == (20, 40, 60, 120)
    assert outline[21:59, 78:82].any() == (dtype is not bool)
    assert not outline[30, 60]


def test_layers_lie_over_each_other() -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[10:30, 20:60] = 1
    picture = pixels(Panel(GREY, "", boxes=[Box(10, 20, 30, 60, PLANE)], filled=mask, outlined=mask))
    assert of_colour(picture, BOX).any()
    assert not of_colour(picture, PREDICTION).any()  # the reference lies on the same pixels
    assert (picture[40, 80] == np.round(0.55 * 102 + 0.45 * np.array(PREDICTION))).all()


def test_image_is_not_changed() -> None:
    image = GREY.copy()
    Panel(image, "", filled=np.ones((40, 80), bool)).draw(80)
    assert (image == GREY).all()


def test_contact_sheet_holds_every_panel() -> None:
    red, green = np.zeros((40, 80, 3), np.float32), np.zeros((80, 40, 3), np.float32)
    red[..., 0], green[..., 1] = 1.0, 1.0
    rows = [("first", [Panel(red, "a"), Panel(green, "b"), Panel(red, "c")]), ("second", [Panel(green, "d")])]
    sheet = contact_sheet("Title", rows, side=100)
    assert isinstance(sheet, Image.Image)
    picture = np.asarray(sheet)
    assert of_colour(picture, (255, 0, 0)).sum() == 2 * 50 * 100
    assert of_colour(picture, (0, 255, 0)).sum() == 2 * 100 * 50
    top = of_colour(picture, (255, 0, 0)).any(axis=1).argmax()
    below = np.flatnonzero(of_colour(picture, (0, 255, 0)).any(axis=1)).max()
    assert 48 < top < below < picture.shape[0]
    light = (picture == 235).all(axis=-1)
    assert light[:48].any()
    assert light[48:top].any()


def test_sheet_is_as_wide_as_its_title() -> None:
    narrow = contact_sheet("T", [("", [Panel(GREY, "")])], side=50)
    wide = contact_sheet(
        "A title that is much longer than the picture " * 2, [("", [Panel(GREY, "")])], side=50
    )
    assert narrow.width == 50 + 2 * 12
    assert wide.width > 400
    assert wide.height == narrow.height
