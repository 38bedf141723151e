from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError, OutputError
from napari_boxprompt.formats import align, load_boxes, load_coco, load_yolo, save_coco, save_yolo
from napari_boxprompt.images import open_images

quick = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
A = PlaneId("a.png")
H, W = 40, 60
NAMES = ("cell", "nucleus é", "0")


@pytest.fixture
def folder(tmp_path):
    """Three pictures of 40 x 60 pixels, one of them in a sub-folder."""
    place = tmp_path / "images"
    for name in ("a.png", "b.png", "sub/c.png"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((H, W), np.uint8)).save(place / name)
    return place


@pytest.fixture
def images(folder):
    return open_images(folder / "**" / "*.png")


@st.composite
def boxsets(draw, planes, inside=True, ids=True):
    def edge(limit):
        low, high = (0, limit) if inside else (-2 * limit, 2 * limit)
        pair = draw(st.tuples(*[st.floats(low, high)] * 2).filter(lambda p: abs(p[1] - p[0]) > 1e-3))
        return sorted(round(value, 9) for value in pair)

    boxes = []
    for _ in range(draw(st.integers(0, 6))):
        (y0, y1), (x0, x1) = edge(H), edge(W)
        number = draw(st.integers(0, 9)) if ids else 0
        boxes.append(Box(y0, x0, y1, x1, draw(st.sampled_from(planes)), draw(st.sampled_from(NAMES)), number))
    infos = {
        plane: PlaneInfo((H, W), draw(st.booleans()), draw(st.sampled_from([(), ((1.0, 2.0, 3.0, 4.5),)])))
        for plane in planes
    }
    return BoxSet(tuple(boxes), infos, NAMES, draw(st.booleans()))


# --- COCO ---------------------------------------------------------------------------------------------------


@quick
@given(boxsets([A, PlaneId("d/s.tif", (0, 3)), PlaneId("d/s.tif", (1, 0))]))
def test_coco_round_trip_is_exact(tmp_path, boxset):
    path = tmp_path / "boxes.json"
    save_coco(boxset, path)
    assert load_coco(path) == boxset


@quick
@given(boxsets([A], inside=False))
def test_coco_round_trip_outside_the_image(tmp_path, boxset):
    save_coco(boxset, tmp_path / "boxes.json")
    for read, box in zip(load_coco(tmp_path / "boxes.json").boxes, boxset.boxes, strict=True):
        assert read.as_tuple() == pytest.approx(box.as_tuple(), abs=1e-9)
        assert (read.id, read.label, read.plane) == (box.id, box.label, box.plane)


def test_coco_rounds_once(tmp_path):
    boxset = BoxSet((Box(0.1 + 0.2, 1 / 3, 1.1, 17.43212170719733, A), Box(0, 0, 1e-12, 1, A)))
    save_coco(boxset, tmp_path / "boxes.json")
    once = load_coco(tmp_path / "boxes.json")
    assert once.boxes[0].as_tuple() == (0.3, 0.333333333, 1.1, 17.432121707)
    assert once.boxes[1].height == pytest.approx(1e-12)
    save_coco(once, tmp_path / "boxes.json")
    assert load_coco(tmp_path / "boxes.json") == once


def test_coco_is_plain_coco(tmp_path):
    boxset = BoxSet(
        (Box(1, 2, 4, 8, A, "x", 7), Box(0, 0, 2, 2, A, "y")), {A: PlaneInfo((H, W), True)}, ("x",)
    )
    save_coco(boxset, tmp_path / "boxes.json")
    content = json.loads((tmp_path / "boxes.json").read_text())
    assert content["napari_boxprompt"] == {"version": 1, "exclusive": True}
    assert content["images"] == [
        {"id": 1, "file_name": "a.png", "width": W, "height": H, "plane": [], "complete": True}
    ]
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [2, 1, 6, 3],
        "area": 18,
        "iscrowd": 0,
        "object_id": 7,
    }
    assert content["categories"] == [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]


def coco(**changes):
    content = {
        "images": [{"id": 5, "file_name": "a.png", "width": W, "height": H}],
        "categories": [{"id": 3, "name": "cell"}],
        "annotations": [
            {
                "id": 77,
                "image_id": 5,
                "category_id": 3,
                "bbox": [1, 2, 3, 4],
                "segmentation": [[1, 1, 2, 2, 3, 3]],
                "attributes": {"rotation": 0.0},
            }
        ],
    }
    return content | changes


def annotation(**changes):
    return coco(annotations=[coco()["annotations"][0] | changes])


def image(**changes):
    return coco(images=[coco()["images"][0] | changes])


def without(key):
    content = coco()
    del content[key]
    return content


def write(tmp_path, content, name="boxes.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_foreign_coco(tmp_path):
    boxset = load_coco(write(tmp_path, coco()))
    assert boxset.boxes == (Box(2, 1, 6, 4, A, "cell", 77),)
    assert boxset.planes == {A: PlaneInfo((H, W))}
    assert boxset.exclusive
    nameless = coco(annotations=[{"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4]}])
    assert load_coco(write(tmp_path, nameless)).boxes[0].id == 0
    strings = image(id="x") | {"annotations": [{"image_id": "x", "category_id": 3, "bbox": [1, 2, 3, 4]}]}
    assert len(load_coco(write(tmp_path, "\ufeff" + json.dumps(strings)))) == 1


BOX = coco()["annotations"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a COCO file"),
        ("7", "not a COCO file"),
        (without("images"), "not a COCO file"),
        (without("annotations"), "not a COCO file"),
        (without("categories"), '"categories" is missing'),
        (coco(annotations={}), '"annotations" is missing'),
        (coco(images=[3]), '"images" is missing'),
        (coco(images=[{"file_name": "a.png"}]), "kind image has no"),
        (coco(images=[{"id": 5}]), 'image 5 has no "file_name"'),
        (coco(images=[{"id": 5, "file_name": "a"}] * 2), "image id 5 is used twice"),
        (coco(images=[{"id": i, "file_name": "a"} for i in (4, 5)]), "lists a a second time"),
        (image(width="60"), "image 5 has height 40 and width '60'"),
        (image(width=0), "image 5 has height"),
        (image(width=None), "image 5 has height"),
        (image(plane=3), "image 5 has the plane 3"),
        (image(plane=[-1]), "image 5 has the plane"),
        (image(plane=[True]), "image 5 has the plane"),
        (image(complete="yes"), "image 5 has a damaged"),
        (image(complete_regions=[[1, 2, 3]]), "complete region of image 5"),
        (coco(categories=[{"id": 3}]), 'category 3 has no "name"'),
        (coco(categories=[{"id": 3, "name": "x"}, {"id": 4, "name": "x"}]), "same name"),
        (coco(annotations=[BOX, BOX]), "annotation id 77 is used twice"),
        (annotation(image_id=6), "annotation 77 lies on image 6"),
        (annotation(image_id=[5]), "annotation 77 lies on image"),
        (annotation(category_id=1), "annotation 77 has the category 1"),
        (annotation(bbox=None), "annotation 77 needs"),
        (annotation(bbox=[1, 2, 3]), "annotation 77 needs"),
        (annotation(bbox=[1, 2, 3, "4"]), "annotation 77 needs"),
        (annotation(bbox=[1, 2, 3, True]), "annotation 77 needs"),
        (annotation(bbox=[1, 2, 3, 10**400]), "annotation 77 needs"),
        (annotation(bbox=[1, 2, 0, 4]), "annotation 77 has a bbox without area"),
        (annotation(bbox=[1, 2, 3, -4]), "annotation 77 has a bbox without area"),
        (annotation(bbox=[1e17, 2, 3, 4]), "annotation 77 has a bbox without area"),
        (annotation(bbox=[1, 2, 3, math.nan]), "annotation 77 has a bbox that is not finite"),
        (annotation(bbox=[1, 2, 3, math.inf]), "annotation 77 has a bbox that is not finite"),
        (annotation(bbox=[1, 2, 3, 4, 30]), "annotation 77 is a rotated box"),
        (annotation(bbox=[1, 2, 3, 4, 5, 6, 7, 8]), "annotation 77 is a rotated box"),
        (annotation(rotation=30), "annotation 77 is rotated"),
        (annotation(attributes={"rotation": 12.5}), "annotation 77 is rotated"),
        (annotation(angle=-0.1), "annotation 77 is rotated"),
        (coco(napari_boxprompt={"version": 2}), "newer version"),
        (coco(napari_boxprompt={"version": "1"}), "damaged"),
        (coco(napari_boxprompt=[]), "damaged"),
        (coco(napari_boxprompt={"version": 1, "exclusive": 3}), "damaged"),
    ],
)
def test_bad_coco(tmp_path, content, message):
    with pytest.raises(BoxError) as caught:
        load_coco(write(tmp_path, content))
    assert message in str(caught.value)
    assert "boxes.json" in str(caught.value)


def test_coco_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BoxError, match="no box file"):
        load_coco(tmp_path / "none.json")
    with pytest.raises(BoxError, match="cannot be read"):
        load_coco(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BoxError, match="not valid JSON"):
        load_coco(tmp_path / "binary.json")
    with pytest.raises(OutputError):
        save_coco(BoxSet(), tmp_path)


# --- align --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "means"),
    [
        ("a.png", "a.png"),
        ("elsewhere/deep/a.png", "a.png"),
        ("elsewhere\\a.png", "a.png"),
        ("./sub/c.png", "sub/c.png"),
        ("c.png", "sub/c.png"),
        ("b", "b.png"),
        ("x/b.ome.tif", "b.png"),
    ],
)
def test_names_are_found(images, named, means):
    boxset = align(BoxSet((Box(1, 2, 3, 4, PlaneId(named)),)), images)
    assert boxset.boxes[0].plane == PlaneId(means)
    assert boxset.planes == {PlaneId(means): PlaneInfo((H, W))}


def test_folders_decide_between_equal_names(folder):
    Image.fromarray(np.zeros((H, W), np.uint8)).save(folder / "sub" / "a.png")
    images = open_images(folder / "**" / "*.png")
    box = Box(1, 2, 3, 4, PlaneId("data/sub/a.png"))
    assert align(BoxSet((box,)), images).boxes[0].plane.image == "sub/a.png"
    with pytest.raises(BoxError, match=r"fits a\.png and sub/a\.png equally well"):
        align(BoxSet((Box(1, 2, 3, 4, PlaneId("a.jpg")),)), images)


@pytest.fixture
def nested(tmp_path):
    """Two images in sub-folders."""
    for name in ("a/img.png", "c/other.png"):
        (tmp_path / "nested" / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((H, W), np.uint8)).save(tmp_path / "nested" / name)
    return open_images(tmp_path / "nested" / "**" / "*.png")


def test_the_same_name_in_another_folder_is_said_once(nested, tmp_path, caplog):
    names = ("b/img.png", "deep/d/other.jpg")
    boxset = BoxSet(tuple(Box(1, 2, 3, 4, PlaneId(name)) for name in (*names, *names)))
    aligned = align(boxset, nested)
    assert {plane.image for plane in aligned.planes} == {"a/img.png", "c/other.png"}
    (record,) = caplog.records
    assert record.getMessage().startswith("2 images that the boxes name are taken from other folders")
    assert "a/img.png for b/img.png" in record.getMessage()
    caplog.clear()
    align(aligned, nested)
    (tmp_path / "labels" / "b").mkdir(parents=True)
    (tmp_path / "labels" / "b" / "img.txt").write_text("0 .5 .5 .1 .1\n")
    assert not caplog.records
    load_yolo(tmp_path / "labels", nested)
    assert [record.getMessage()[:8] for record in caplog.records] == ["1 images"]


@pytest.mark.parametrize("named", ["img.png", "a/img.png", "moved/to/a/img.png", "a\\img.jpg", "./img.png"])
def test_moved_folders_are_no_other_folders(nested, named, caplog):
    assert align(BoxSet((Box(1, 2, 3, 4, PlaneId(named)),)), nested).boxes[0].plane.image == "a/img.png"
    assert not caplog.records


def test_two_names_for_one_image(images):
    boxset = BoxSet((Box(1, 2, 3, 4, PlaneId("train/a.png")), Box(1, 2, 3, 4, PlaneId("val/a.png"))))
    with pytest.raises(BoxError, match=r"both 'train/a\.png' and 'val/a\.png'"):
        align(boxset, images)


def test_unknown_images(images, caplog):
    boxset = BoxSet((Box(1, 2, 3, 4, PlaneId("zzz.png")),), {A: PlaneInfo()})
    assert align(boxset, images).planes.keys() == {A}
    assert "1 planes with 1 boxes" in caplog.text
    with pytest.raises(BoxError, match=r"None of the images .*zzz\.png"):
        align(boxset.restrict([PlaneId("zzz.png")]), images)
    assert align(BoxSet(), images) == BoxSet()


def test_sizes_and_borders(images, caplog):
    with pytest.raises(BoxError, match=r"50 x 40 version of a\.png, but the image is 60 x 40"):
        align(BoxSet((), {A: PlaneInfo((40, 50))}), images)
    with pytest.raises(BoxError, match="lies outside"):
        align(BoxSet((Box(1, W, 3, W + 5, A),)), images)
    boxset = align(BoxSet((Box(-1, 2, 3, W + 1, A), Box(0, 0, H, W, A))), images)
    assert [box.as_tuple() for box in boxset.boxes] == [(0, 2, 3, W), (0, 0, H, W)]
    assert "1 boxes reach beyond" in caplog.text


def test_planes_of_stacks():
    images = open_images(np.zeros((2, 5, H, W)), name="layer")
    box = Box(1, 2, 3, 4, PlaneId("layer", (1, 4)))
    assert align(BoxSet((box,)), images).boxes == (box,)
    for index in [(2, 0), (0, 5), (0,), (0, 0, 0)]:
        with pytest.raises(BoxError, match=r"\[0 to 1, 0 to 4\]"):
            align(BoxSet((Box(1, 2, 3, 4, PlaneId("layer", index)),)), images)
    with pytest.raises(BoxError, match=r'"plane": \[0, 0\]'):
        align(BoxSet((Box(1, 2, 3, 4, PlaneId("layer")),)), images)
    with pytest.raises(BoxError, match="single image"):
        align(BoxSet((Box(1, 2, 3, 4, box.plane),)), open_images(np.zeros((H, W)), name="layer"))
    one = open_images(np.zeros((1, H, W)), name="layer")
    assert align(BoxSet((Box(1, 2, 3, 4, PlaneId("layer")),)), one).boxes[0].plane.index == (0,)


# --- YOLO ---------------------------------------------------------------------------------------------------


@quick
@given(boxsets([A, PlaneId("b.png"), PlaneId("sub/c.png")], ids=False))
def test_yolo_round_trip(tmp_path_factory, images, boxset):
    assume(boxset.boxed_planes)
    folder = tmp_path_factory.mktemp("labels")
    save_yolo(boxset, folder)
    read = load_boxes(folder, images)
    assert read.classes == NAMES
    assert set(read.planes) == set(boxset.boxed_planes)
    for plane in boxset.boxed_planes:
        boxes, again = boxset.on(plane), read.on(plane)
        assert [box.label for box in boxes] == [box.label for box in again]
        for box, twin in zip(boxes, again, strict=True):
            assert twin.as_tuple() == pytest.approx(box.as_tuple(), abs=1e-6)
        assert read.planes[plane].complete == (not boxes)


def test_yolo_beside_the_images(folder, images):
    (folder / "a.txt").write_text("1 0.5 0.5 0.1 0.2\n\n0 0.1 0.1 0.2 0.2\n")
    (folder / "sub" / "c.txt").write_text("")
    boxset = load_boxes(folder, images)
    assert boxset.classes == ("class 0", "class 1")
    assert boxset.boxes[0].as_tuple() == pytest.approx((16, 27, 24, 33))
    assert boxset.planes == {A: PlaneInfo((H, W)), PlaneId("sub/c.png"): PlaneInfo((H, W), True)}
    assert load_boxes(folder, images, complete=True).planes[A].complete
    assert len(load_boxes(folder / "a.txt", images)) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "cell\nnucleus\n"),
        ("obj.names", "cell\nnucleus"),
        ("data.yaml", "train: x\nnames: [cell, nucleus]\n"),
        ("data.yaml", "names:\n  0: cell\n  1: nucleus\n"),
    ],
)
@pytest.mark.parametrize("where", ["labels/train", "labels", "."])
def test_yolo_class_names(tmp_path, images, name, text, where):
    place = tmp_path / "labels" / "train"
    place.mkdir(parents=True)
    (tmp_path / where / name).write_text(text)
    (place / "a.txt").write_text("1 0.5 0.5 0.1 0.2")
    boxset = load_yolo(place, images)
    assert boxset.classes == ("cell", "nucleus")
    assert boxset.boxes[0].label == "nucleus"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "there are 4 values"),
        ("0 0.5 0.5 0.1 0.1 0.9", "there are 6 values"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "rotated box"),
        ("x 0.5 0.5 0.1 0.1", "not five numbers"),
        ("0 0.5 0.5 0.1 0,1", "not five numbers"),
        ("0 0.5 nan 0.1 0.1", "not finite"),
        ("0 0.5 inf 0.1 0.1", "not finite"),
        ("nan 0.5 0.5 0.1 0.1", "not finite"),
        ("0 0.5 1.5 0.1 0.1", "outside 0 to 1"),
        ("0 -0.5 0.5 0.1 0.1", "outside 0 to 1"),
        ("0 0.5 0.5 0 0.1", "no area"),
        ("0 0.5 0.5 -0.00001 0.1", "no area"),
        ("0 1.00005 0.5 0.0000001 0.1", "no area inside"),
        ("0.5 0.5 0.5 0.1 0.1", "not a whole number"),
        ("-1 0.5 0.5 0.1 0.1", "not a whole number"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is not known, there are 2 names"),
    ],
)
def test_bad_yolo_lines(tmp_path, images, line, message):
    (tmp_path / "classes.txt").write_text("cell\nnucleus")
    (tmp_path / "a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(BoxError, match=r"a\.txt, line 3: ") as caught:
        load_yolo(tmp_path, images)
    assert message in str(caught.value)


def test_rounding_overshoot_is_cut(tmp_path, images):
    (tmp_path / "a.txt").write_text("0 0.9500004 0.5 0.1 1.000001")
    assert load_yolo(tmp_path, images).boxes[0].as_tuple() == pytest.approx((0, 54.000024, H, W))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.txt", "cell\ncell\n", "twice"),
        ("data.yaml", "names: [", "not valid YAML"),
        ("data.yaml", "nc: 3", "no list"),
        ("data.yaml", "names: {1: x}", "no list"),
    ],
)
def test_bad_class_names(tmp_path, images, name, text, message):
    (tmp_path / name).write_text(text)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(BoxError, match=message):
        load_yolo(tmp_path, images)


def test_yolo_files_and_images(tmp_path, images, caplog):
    with pytest.raises(BoxError, match=r"no YOLO \.txt files"):
        load_yolo(tmp_path, images)
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(BoxError, match=r"No image is called like .*other\.txt"):
        load_yolo(tmp_path, images)
    (tmp_path / "a.txt").write_text("")
    assert load_yolo(tmp_path, images).planes.keys() == {A}
    assert "1 label files fit no image" in caplog.text
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.txt").write_text("")
    with pytest.raises(BoxError, match=r"Two label files fit the image a\.png"):
        load_yolo(tmp_path, images)
    with pytest.raises(BoxError, match="stack of 3 planes"):
        load_yolo(tmp_path, open_images(np.zeros((3, H, W)), name="a"))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BoxError, match="not a text file"):
        load_yolo(tmp_path / "a.txt", images)
    with pytest.raises(BoxError, match="cannot be read"):
        load_yolo(tmp_path / "b.txt", images)


@pytest.mark.parametrize(
    ("boxset", "message"),
    [
        (BoxSet((Box(0, 0, 1, 1, PlaneId("s", (0,))),)), "planes of a stack"),
        (BoxSet((Box(0, 0, 1, 1, A),)), "size of a.png is not known"),
        (BoxSet((), {PlaneId(n): PlaneInfo((H, W), True) for n in ("a.png", "a.tif")}), "name of another"),
        (BoxSet((), {PlaneId("classes.png"): PlaneInfo((H, W), True)}), "name of another"),
        (BoxSet((), {PlaneId("../a.png"): PlaneInfo((H, W), True)}), "leads out"),
        (BoxSet((), {PlaneId("/etc/a.png"): PlaneInfo((H, W), True)}), "leads out"),
        (BoxSet((), {}, ("x\ny",)), "one line"),
    ],
)
def test_what_yolo_cannot_say(tmp_path, boxset, message):
    with pytest.raises(BoxError, match=message):
        save_yolo(boxset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- load_boxes ---------------------------------------------------------------------------------------------


def test_load_recognises_formats(tmp_path, images):
    path = write(tmp_path, coco())
    assert load_boxes(path).planes[A] == PlaneInfo((H, W))
    assert load_boxes(str(path), images, complete=True).planes[A].complete
    assert load_boxes(tmp_path).boxes == load_boxes(path).boxes
    with pytest.raises(BoxError, match="no boxes at"):
        load_boxes(tmp_path / "none.json")
    write(tmp_path, coco(), "other.json")
    with pytest.raises(BoxError, match="2 JSON files"):
        load_boxes(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(BoxError, match="give the images too"):
        load_boxes(tmp_path / "a.txt")
    (tmp_path / "bare").mkdir()
    with pytest.raises(BoxError, match="holds no boxes"):
        load_boxes(tmp_path / "bare")
