from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.overlays import BOX, ORACLE, PREDICTION, REFERENCE, Panel, comparison, contact_sheet

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


def square(y: int, x: int, side: int, shape: tuple[int, int] = (200, 300)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_lines_have_their_colours_and_later_ones_lie_above() -> None:
    first, second = square(10, 10, 10, (40, 80)), square(10, 30, 10, (40, 80))
    picture = pixels(Panel(GREY, "", lines=[(first, ORACLE), (second, PREDICTION)]))
    assert extent(of_colour(picture, ORACLE)) == (20, 20, 40, 40)
    assert extent(of_colour(picture, PREDICTION)) == (20, 60, 40, 80)
    covered = pixels(Panel(GREY, "", lines=[(first, ORACLE), (first, PREDICTION)]))
    assert not of_colour(covered, ORACLE).any()


def test_small_objects_are_shown_enlarged_with_a_frame_where_they_are() -> None:
    image = np.full((200, 300, 3), 0.4, np.float32)
    sheet = comparison("T", image, square(60, 200, 40), square(60, 200, 38), square(60, 200, 42), side=200)
    picture = np.asarray(sheet)
    assert sheet.width == 4 * 200 + 5 * 12
    top, left, bottom, _ = extent(of_colour(picture, BOX))
    scale = 200 / 300
    assert bottom - top == pytest.approx(63 * scale, abs=2)
    assert left - 12 == pytest.approx((221 - 31.5) * scale, abs=2)
    blue, green = extent(of_colour(picture, PREDICTION)), extent(of_colour(picture, ORACLE))
    assert 424 <= blue[1] < blue[3] <= 636 <= green[1]
    assert blue[3] - blue[1] == pytest.approx(40 / 63 * 200, abs=4)
    assert of_colour(picture[:, 424:636], REFERENCE).any()
    assert of_colour(picture[:, 636:], REFERENCE).any()


@pytest.mark.parametrize("side", [0, 150])
def test_large_objects_and_none_are_shown_whole(side: int) -> None:
    image = np.full((200, 300, 3), 0.4, np.float32)
    mask = square(10, 10, side)
    sheet = comparison("T", image, mask, mask, mask, side=200)
    assert sheet.width == 3 * 200 + 4 * 12
    assert not of_colour(np.asarray(sheet), BOX).any()


def test_a_part_at_the_corner_of_an_image_stays_inside() -> None:
    image = np.full((60, 300, 3), 0.4, np.float32)
    mask = square(50, 290, 10, (60, 300))
    assert comparison("T", image, mask, mask, mask).width > 1000
