"""Annotations of COCO files that stand for a group of objects."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from tests.project.conftest import FLAT, SECOND, SIDE

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxError
from napari_boxprompt.formats import load_boxes, load_class_masks, load_coco
from napari_boxprompt.formats.outlines import class_masks, encode_mask, load_coco_masks
from napari_boxprompt.images import open_images
from napari_boxprompt.project import import_into

ONE, GROUP = (10, 10, 20, 20), (5, 5, 50, 60)


def entry(number, image, corners, crowd):
    y0, x0, y1, x1 = corners
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y0:y1, x0:x1] = True
    return {
        "id": number,
        "image_id": image,
        "category_id": 3,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": crowd,
        "segmentation": encode_mask(mask),
    }


@pytest.fixture
def write(tmp_path):
    """Write annotations on two images."""

    def done(*annotations):
        path = tmp_path / "boxes.json"
        names = {7: FLAT.image, 8: SECOND.image}
        content = {
            "images": [{"id": n, "file_name": f, "width": SIDE, "height": SIDE} for n, f in names.items()],
            "categories": [{"id": 3, "name": "cell"}],
            "annotations": annotations,
        }
        path.write_text(json.dumps(content))
        return path

    return done


@pytest.fixture
def grouped(write):
    """An object and a group round it on the first image, an object on the second."""
    return write(entry(1, 7, ONE, 0), entry(2, 7, GROUP, 1), entry(3, 8, ONE, 0))


def test_a_group_is_no_object(grouped, caplog):
    found = load_coco(grouped)
    assert [(box.plane, box.as_tuple()) for box in found.boxes] == [(FLAT, ONE), (SECOND, ONE)]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "1 annotations marked as a crowd" in caplog.text
    masks = load_coco_masks(grouped)
    assert masks[FLAT][1] == {1: "cell"}
    assert masks[FLAT][0].sum() == 100, "the group covers the object"


def test_a_group_needs_no_usable_box(write):
    group = entry(2, 7, GROUP, 1) | {"bbox": [0, 0, 0, 0], "segmentation": []}
    assert len(load_coco(write(entry(1, 7, ONE, 0), group))) == 1
    with pytest.raises(BoxError, match="annotation 2 lies on image 99"):
        load_coco(write(entry(1, 7, ONE, 0), group | {"image_id": 99}))


def test_a_plane_with_a_group_is_not_complete(grouped, images, caplog):
    drawn = load_boxes(grouped, open_images(images), complete=True)
    assert {plane: info.complete for plane, info in drawn.planes.items()} == {FLAT: False, SECOND: True}
    assert len(caplog.records) == 1
    assert load_boxes(grouped, complete=True).planes[FLAT].complete is False


def test_outlines_beside_a_group_are_not_the_truth(grouped, write, images):
    opened = open_images(images)
    assert set(class_masks(grouped)) == {SECOND}
    masks = load_class_masks(grouped, opened, load_boxes(grouped, opened, complete=True))
    assert {plane: int(mask.sum()) for plane, mask in masks.items()} == {SECOND: 100}
    path = write(entry(1, 7, ONE, 0), entry(2, 7, GROUP, 1))
    with pytest.raises(BoxError, match="only beside crowds"):
        load_class_masks(path, opened, load_boxes(path, opened, complete=True))


def test_a_project_does_not_accept_them(grouped, project, caplog):
    import_into(project, grouped)
    assert [project.status(plane) for plane in (FLAT, SECOND)] == ["boxed", "accepted"]
    assert project.masked_planes() == (SECOND,)
    assert project.mask(FLAT).labels.sum() == 100
    assert len(project.boxes) == 2
    assert len(caplog.records) == 1


def test_where_everything_is_marked_it_means_nothing(write, images, caplog):
    path = write(entry(1, 7, ONE, 1), entry(2, 8, GROUP, 1))
    drawn = load_boxes(path, open_images(images), complete=True)
    assert [box.as_tuple() for box in drawn.boxes] == [ONE, GROUP]
    assert all(info.complete for info in drawn.planes.values())
    assert "all 2 annotations are marked as a crowd" in caplog.text
    assert set(load_coco_masks(path)) == {PlaneId(FLAT.image), SECOND}
