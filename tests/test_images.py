from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydantic import ValidationError

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import ImageError
from napari_boxprompt.images import Images, Normalization, open_images, read_mask
from napari_boxprompt.normalization import sample_values

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (36, 40)).astype(np.uint8)
RGB = RNG.integers(0, 255, (36, 40, 3)).astype(np.uint8)
ZYX = {"axes": "ZYX"}
STACK = RNG.integers(0, 60000, (5, 36, 40)).astype(np.uint16)


def only(source, **kwargs) -> np.ndarray:
    images = open_images(source, **kwargs)
    assert len(images) == 1
    pixels = images.read(images.planes[0])
    assert pixels.shape[:2] == images.shape(images.planes[0])
    return pixels


def read_all(source) -> None:
    images = open_images(source)
    for plane in images.planes:
        images.read(plane)


# --- pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".PNG"])
def test_pictures_rgb(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(only(path), RGB)
    np.testing.assert_array_equal(only(path, channel=2), RGB[..., 2:])
    assert open_images(path).planes == (PlaneId(path.name),)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (GREY, GREY[..., None]),
        (STACK[0], STACK[0][..., None]),
        (GREY > 100, (GREY > 100)[..., None]),
        (np.dstack([RGB, GREY]), RGB),
        (np.dstack([GREY, GREY]), GREY[..., None]),
    ],
    ids=["8 bit", "16 bit", "1 bit", "RGBA", "grey and alpha"],
)
def test_png_kinds(tmp_path, pixels, expected):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = only(tmp_path / "a.png")
    assert read.dtype == expected.dtype
    np.testing.assert_array_equal(read, expected)


def test_palette_and_cmyk_become_colours(tmp_path):
    Image.fromarray(RGB).quantize(16).save(tmp_path / "p.png")
    assert only(tmp_path / "p.png").shape == (36, 40, 3)
    Image.fromarray(GREY).convert("P").save(tmp_path / "g.gif")
    assert only(tmp_path / "g.gif").shape == (36, 40, 1)
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "c.jpg")
    assert only(tmp_path / "c.jpg").shape == (36, 40, 3)


def test_a_mask_with_a_palette_gives_its_numbers(tmp_path):
    numbers = np.zeros((36, 40), np.uint8)
    numbers[:9], numbers[9:20] = 3, 2
    picture = Image.fromarray(numbers)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])  # 1 and 3 are equally red
    for name, more in {"a.png": {}, "b.png": {"transparency": 0}}.items():
        picture.save(tmp_path / name, **more)
        np.testing.assert_array_equal(read_mask(tmp_path / name), numbers)
    tifffile.imwrite(tmp_path / "c.tif", np.stack([numbers, 0 * numbers]), photometric="minisblack")
    np.testing.assert_array_equal(read_mask(tmp_path / "c.tif"), numbers)
    Image.fromarray(RGB).save(tmp_path / "d.png")
    with pytest.raises(ImageError, match=r"d\.png has three colour channels"):
        read_mask(tmp_path / "d.png")


def test_jpeg_and_unknown_suffix(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg")
    assert only(tmp_path / "a.jpg").shape == (36, 40, 1)
    (tmp_path / "a.scan").write_bytes((tmp_path / "a.jpg").read_bytes())
    assert only(tmp_path / "a.scan").shape == (36, 40, 1)
    tifffile.imwrite(tmp_path / "b.scan", GREY)
    assert only(tmp_path / "b.scan").shape == (36, 40, 1)


# --- TIFF ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8", "bool", ">u2"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_types(tmp_path, dtype, compression):
    data = (RNG.random((3, 36, 40)) * 100).astype(dtype)
    byteorder = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(
        tmp_path / "a.tif", data, compression=compression, photometric="minisblack", byteorder=byteorder
    )
    images = open_images(tmp_path / "a.tif")
    assert [plane.index for plane in images.planes] == [(0,), (1,), (2,)]
    read = images.read(images.planes[1])
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(read[..., 0], data[1])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_axes(tmp_path, compression):
    data = RNG.integers(0, 60000, (4, 3, 36, 40)).astype(np.uint16)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, data, ome=True, metadata={"axes": "ZCYX"}, compression=compression, photometric="minisblack"
    )
    images = open_images(path)
    assert images.planes == tuple(PlaneId("a.ome.tif", (z,)) for z in range(4))
    np.testing.assert_array_equal(images.read(images.planes[2]), np.moveaxis(data[2], 0, -1))
    one = open_images(path, channel=1)
    np.testing.assert_array_equal(one.read(one.planes[3])[..., 0], data[3, 1])
    with pytest.raises(ImageError, match="no channel 3"):
        open_images(path, channel=3)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("samples", [3, 4])
def test_tiff_rgb(tmp_path, planar, compression, samples):
    data = RNG.integers(0, 255, (2, 36, 40, samples)).astype(np.uint8)
    path = tmp_path / "a.tif"
    stored = data if planar == "contig" else np.moveaxis(data, -1, 1)
    tifffile.imwrite(
        path,
        stored,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        extrasamples=["unassalpha"] if samples == 4 else None,
    )
    images = open_images(path)
    assert len(images) == 2
    np.testing.assert_array_equal(images.read(images.planes[1]), data[1, ..., :3])
    one = open_images(path, channel=2)
    np.testing.assert_array_equal(one.read(one.planes[0]), data[0, ..., 2:3])


def test_time_and_depth(tmp_path):
    data = RNG.integers(0, 255, (2, 3, 36, 40)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "TZYX"})
    images = open_images(tmp_path / "a.tif")
    assert [plane.index for plane in images.planes] == [(t, z) for t in range(2) for z in range(3)]
    np.testing.assert_array_equal(images.read(PlaneId("a.tif", (1, 2)))[..., 0], data[1, 2])


def test_channels_must_be_chosen(tmp_path):
    data = RNG.integers(0, 255, (5, 36, 40)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(ImageError, match=r"a\.tif has 5 channels; choose one with --channel"):
        open_images(tmp_path / "a.tif")
    np.testing.assert_array_equal(only(tmp_path / "a.tif", channel=4)[..., 0], data[4])


def test_compressed_stack_decodes_only_the_page_asked_for(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib", photometric="minisblack")
    images = open_images(tmp_path / "a.tif")
    pages = []
    original = tifffile.TiffPage.asarray

    def count(page, *args, **kwargs):
        pages.append(page.index)
        return original(page, *args, **kwargs)

    def refuse(*args, **kwargs):
        raise AssertionError("the whole stack is read")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", count)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", refuse)
    np.testing.assert_array_equal(images.read(images.planes[3])[..., 0], STACK[3])
    assert len(pages) == 1


def test_the_pages_of_a_stack_are_listed_once(tmp_path, monkeypatch):
    path, opened = tmp_path / "stack.tif", []
    tifffile.imwrite(path, np.ones((3, 40, 50), np.uint8), photometric="minisblack", compression="zlib")
    usual = tifffile.TiffFile
    monkeypatch.setattr(tifffile, "TiffFile", lambda path: opened.append(path) or usual(path))
    images = open_images(path)
    for plane in images.planes:
        images.read(plane)
    assert opened == [path]


def test_planes_are_counted_when_they_are_asked_for(monkeypatch):
    with monkeypatch.context() as refusing:
        refusing.setattr("napari_boxprompt._readers.all_indices", lambda _: pytest.fail("counted"))
        images = open_images(np.ones((3, 40, 50), np.uint8))
    assert [plane.index for plane in images.planes] == [(0,), (1,), (2,)]


def test_plain_stack_is_mapped(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    images = open_images(tmp_path / "a.tif")
    monkeypatch.delattr(tifffile.TiffPage, "asarray")
    read = images.read(images.planes[3])
    assert not isinstance(read.base, np.memmap)
    np.testing.assert_array_equal(read[..., 0], STACK[3])


def test_volumetric_tiles_are_read_whole(tmp_path):
    data = RNG.integers(0, 255, (2, 32, 48, 48)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        data,
        tile=(16, 16, 16),
        volumetric=True,
        compression="zlib",
        photometric="minisblack",
    )
    images = open_images(tmp_path / "a.tif")
    np.testing.assert_array_equal(images.read(PlaneId("a.tif", (1, 20)))[..., 0], data[1, 20])


def test_many_files_share_few_handles(tmp_path):
    for i in range(12):
        tifffile.imwrite(tmp_path / f"{i}.tif", STACK[:2] + i, compression="zlib", photometric="minisblack")
    images = open_images(tmp_path)
    for _ in range(2):
        for plane in images.planes:
            assert images.read(plane)[0, 0, 0] == STACK[plane.index[0], 0, 0] + int(Path(plane.image).stem)
    twin = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(twin.read(twin.planes[0]), images.read(images.planes[0]))


def test_other_series_are_reported(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY, photometric="minisblack")
        writer.write(STACK[0], photometric="minisblack")
    np.testing.assert_array_equal(only(tmp_path / "a.tif")[..., 0], GREY)
    assert "only the first" in caplog.text


# --- arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "planes", "channels"),
    [
        ((36, 40), 1, 1),
        ((36, 40, 3), 1, 3),
        ((36, 40, 4), 1, 3),
        ((5, 36, 40), 5, 1),
        ((2, 5, 36, 40), 10, 1),
        ((5, 36, 40, 3), 5, 3),
        ((3, 36, 40), 3, 1),
    ],
)
def test_array_shapes(shape, planes, channels):
    array = RNG.random(shape).astype(np.float32)
    images = open_images(array, name="layer")
    assert len(images) == planes
    assert images.planes[0] == PlaneId("layer", (0,) * (array.ndim - 2 - (channels == 3)))
    last = images.planes[-1]
    assert images.read(last).shape == (36, 40, channels)
    expected = array[last.index][..., :3] if channels == 3 else array[last.index][..., None]
    np.testing.assert_array_equal(images.read(last), expected)


def test_array_channel_axis_and_rgb():
    array = RNG.random((2, 3, 36, 40))
    images = open_images(array, channel_axis=1)
    assert len(images) == 2
    np.testing.assert_array_equal(images.read(images.planes[1]), np.moveaxis(array[1], 0, -1))
    last = RNG.random((2, 36, 40, 6))
    np.testing.assert_array_equal(
        open_images(last, channel_axis=-1, channel=5).read(PlaneId("image", (1,))), last[1, ..., 5:]
    )
    first = RNG.random((3, 2, 36, 40))
    images = open_images(first, channel_axis=0)
    np.testing.assert_array_equal(images.read(images.planes[1]), np.moveaxis(first[:, 1], 0, -1))
    np.testing.assert_array_equal(only(RGB, channel=1), RGB[..., 1:2])
    with pytest.raises(ImageError, match="at least 32"):
        open_images(RGB, rgb=False)


def test_dask_is_computed_one_plane_at_a_time():
    blocks = []

    def block(block_info=None):
        blocks.append(block_info)
        return np.ones((1, 36, 40))

    lazy = da.map_blocks(block, chunks=((1,) * 5, (36,), (40,)), dtype=float, meta=np.ones((0, 0, 0)))
    images = open_images(lazy)
    blocks.clear()
    assert images.read(images.planes[3]).shape == (36, 40, 1)
    assert len(blocks) == 1


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", STACK)
    images = open_images(tmp_path / "a.npy")
    np.testing.assert_array_equal(images.read(images.planes[2])[..., 0], STACK[2])


# --- folders, patterns, lists -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name in ("z10.png", "z2.png", "Z1.PNG", "sub/z3.png", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(GREY).save(path)
    (tmp_path / "notes.txt").write_text("x")
    tifffile.imwrite(tmp_path / "stack.tif", STACK)
    return tmp_path


def test_folder(folder):
    images = open_images(folder)
    assert images.names == ("Z1.PNG", "z2.png", "z10.png", "stack.tif") or images.names[0] == "stack.tif"
    assert [name for name in images.names if name != "stack.tif"] == ["Z1.PNG", "z2.png", "z10.png"]
    assert len(images) == 8
    assert "4 images, 8 planes" in repr(images)
    assert open_images(str(folder)).planes == images.planes


def test_patterns(folder):
    assert open_images(str(folder / "z*.png")).names == ("z2.png", "z10.png")
    assert open_images(folder / "**" / "z*.png").names == ("sub/z3.png", "z2.png", "z10.png")
    assert open_images(folder / "sub" / "*").names == ("z3.png",)


def test_list(folder):
    images = open_images([folder / "sub" / "z3.png", str(folder / "z2.png"), folder / "z2.png"])
    assert images.names == ("sub/z3.png", "z2.png")


def test_relative_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert open_images("z*.png").names == ("z2.png", "z10.png")
    assert open_images("z2.png").names == ("z2.png",)


def test_brackets_in_a_name_are_no_pattern(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a[1].png")
    assert open_images(tmp_path / "a[1].png").names == ("a[1].png",)


def test_restrict(folder):
    images = open_images(folder)
    some = images.restrict([PlaneId("z2.png"), PlaneId("stack.tif", (3,))])
    assert isinstance(some, Images)
    assert some.planes == (PlaneId("z2.png"), PlaneId("stack.tif", (3,)))
    assert PlaneId("z10.png") not in some
    assert some.extent("stack.tif") == (5,)
    for wrong in (PlaneId("z10.png"), PlaneId("nowhere.png"), PlaneId("stack.tif", (2,))):
        with pytest.raises(ImageError):
            some.read(wrong)
    with pytest.raises(ImageError, match=r"\[0 to 4\]"):
        images.restrict([PlaneId("stack.tif", (5,))])
    with pytest.raises(ImageError, match="single plane"):
        images.shape(PlaneId("z2.png", (0,)))


# --- errors -------------------------------------------------------------------------------------------------


def broken_png(path):
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes()[:-400])


def broken_chunk(path):
    Image.fromarray(RGB).save(path)
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(bytes(data))


def broken_tiff(path):
    tifffile.imwrite(path, STACK, photometric="minisblack")
    path.write_bytes(path.read_bytes()[:-3000])


def broken_compressed_tiff(path):
    tifffile.imwrite(path, GREY, photometric="minisblack", compression="zlib")
    data = bytearray(path.read_bytes())
    data[-800:-10] = bytes(790)
    path.write_bytes(bytes(data))


def header_only_tiff(path):
    path.write_bytes(b"II*\0\x08\0\0\0")


def text(path):
    path.write_text("this is not an image at all")


def empty(path):
    path.write_bytes(b"")


def small(path):
    Image.fromarray(GREY[:31]).save(path)


def small_tiff(path):
    tifffile.imwrite(path, STACK[:, :20], photometric="minisblack")


def complex_tiff(path):
    tifffile.imwrite(path, GREY.astype(np.complex64), photometric="minisblack")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.png", broken_png, "damaged, cut short"),
        ("a.png", broken_chunk, "damaged, cut short"),
        ("a.jpg", text, "not an image"),
        ("a.tif", text, "not an image"),
        ("a.dat", text, "not an image"),
        ("a.npy", text, "not an image"),
        ("a.tif", broken_tiff, "damaged or cut short"),
        ("a.tif", broken_compressed_tiff, "damaged, cut short"),
        ("a.tif", header_only_tiff, "a.tif"),
        ("a.png", empty, "empty"),
        ("a.tif", empty, "empty"),
        ("a.png", small, "31 x 40 pixels; both sides must be at least 32"),
        ("a.tif", small_tiff, "20 x 40 pixels"),
        ("a.tif", complex_tiff, "complex64"),
    ],
)
def test_bad_files(tmp_path, name, make, message):
    path = tmp_path / name
    make(path)

    with pytest.raises(ImageError, match=message) as caught:
        read_all(path)
    assert name in str(caught.value)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A folder and sound files in it, by name."""
    folder = tmp_path_factory.mktemp("damaged")
    Image.fromarray(RGB).save(folder / "a.png")
    Image.fromarray(RGB).save(folder / "a.jpg")
    np.save(folder / "a.npy", STACK)
    tifffile.imwrite(folder / "a.tif", STACK, photometric="minisblack")
    tifffile.imwrite(folder / "b.tif", STACK, photometric="minisblack", compression="lzma", tile=(16, 16))
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_bytes_give_an_image_or_an_image_error(damaged, data):
    folder, files = damaged
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, data.draw(st.sampled_from([63, 500, len(content) - 1]))))
        content[where] = data.draw(st.sampled_from([0, 1, 127, 255]))
    (folder / name).write_bytes(bytes(content))
    with contextlib.suppress(ImageError):
        read_all(folder / name)


@pytest.mark.parametrize("name", ["missing.png", "missing.tif", "missing"])
def test_missing_file(tmp_path, name):
    with pytest.raises(ImageError, match=f"no file .*{name}"):
        open_images(tmp_path / name)


def test_nothing_found(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ImageError, match=r"holds no images .*\.png.*sub-folders"):
        open_images(tmp_path)
    with pytest.raises(ImageError, match=r"\*\.png"):
        open_images(str(tmp_path / "*.png"))
    with pytest.raises(ImageError, match="1 other files match"):
        open_images(str(tmp_path / "*.txt"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match="looked in"):
        open_images("*.png")
    with pytest.raises(ImageError, match="is empty"):
        open_images([])
    with pytest.raises(ImageError, match="is a folder"):
        open_images([tmp_path / "sub"])
    with pytest.raises(ImageError, match="pass paths or one array"):
        open_images([GREY, GREY])
    with pytest.raises(ImageError, match="pass paths or one array"):
        open_images(7)


@pytest.mark.parametrize(
    ("array", "kwargs", "message"),
    [
        (GREY[0], {}, "1 axes"),
        (np.zeros((0, 40, 40)), {}, "no planes"),
        (np.zeros((40, 0)), {}, "no pixels"),
        (GREY.astype(complex), {}, "complex128"),
        (STACK, {"channel": 1}, "no channel 1"),
        (RGB, {"channel": 3}, "channels 0 to 2"),
        (STACK, {"channel_axis": 0}, "5 channels"),
        (STACK, {"channel_axis": 7}, "no axis 7"),
    ],
)
def test_bad_arrays(array, kwargs, message):
    with pytest.raises(ImageError, match=message):
        open_images(array, **kwargs)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    "options",
    [{}, {"metadata": None}, {"imagej": True, "metadata": ZYX}, {"ome": True, "metadata": ZYX}],
    ids=["shaped", "bare", "imagej", "ome"],
)
def test_cut_stack_is_never_shown_short(tmp_path, compression, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", compression=compression, **options)
    assert len(open_images(path)) == 5
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="cut short"):
        read_all(path)


def test_missing_codec_is_named(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib", photometric="minisblack")
    images = open_images(tmp_path / "a.tif")

    def refuse(*args, **kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", refuse)
    with pytest.raises(ImageError, match="pip install imagecodecs"):
        images.read(images.planes[0])


def test_unreadable_file(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    images = open_images(tmp_path / "a.png")
    for error, message in [
        (PermissionError(13, "denied"), "permissions"),
        (MemoryError(), "memory"),
        (Image.DecompressionBombError("big"), "too large"),
    ]:

        def refuse(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr(Image, "open", refuse)
        with pytest.raises(ImageError, match=message):
            images.read(images.planes[0])


# --- brightness ---------------------------------------------------------------------------------------------

DTYPES = ["bool", "u1", "u2", "u4", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, st.sampled_from([(32, 33), (2, 32, 33), (32, 33, 3)]))
    )
)
def test_any_pixels_end_between_0_and_1(array):
    images = open_images(array)
    scale = Normalization.fit(images)
    for plane in images.planes:
        result = scale.apply(images.read(plane))
        assert result.shape == (32, 33, 3)
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 1


def test_percentiles_and_values():
    ramp = np.linspace(0, 1000, 101 * 101).reshape(101, 101)
    scale = Normalization.fit(open_images(ramp), percentiles=(10, 90))
    assert scale.low == pytest.approx((100,))
    assert scale.high == pytest.approx((900,))
    pixels = np.array([[[0.0], [100], [500], [900], [2000], [np.nan], [np.inf], [-np.inf]]])
    np.testing.assert_allclose(scale.apply(pixels)[0, :, 1], [0, 0, 0.5, 1, 1, 0, 1, 0], atol=1e-6)
    assert Normalization.model_validate_json(scale.model_dump_json()) == scale


def test_large_offset_keeps_detail():
    values = 1e9 + np.arange(40 * 40, dtype=np.float64).reshape(40, 40)
    scale = Normalization.fit(open_images(values), percentiles=(0, 100))
    assert len(np.unique(scale.apply(values[..., None]))) == 1600


def test_nan_is_ignored_and_constant_is_black():
    array = np.full((40, 40), np.nan, np.float32)
    assert Normalization.fit(open_images(array)).low == (0.0,)
    array[:20] = 7
    scale = Normalization.fit(open_images(array))
    assert (scale.low, scale.high) == ((7.0,), (8.0,))
    assert scale.apply(array[..., None]).max() == 0


@pytest.mark.parametrize(
    ("dtype", "ground", "objects"),
    [
        ("f4", 0, (2e-4, 5e-4)),
        ("f8", 0, (2e299, 5e299)),
        ("u2", 0, (300, 3000)),
        ("f2", 0, (2, 5)),
        ("u1", 255, (20, 150)),
        ("f4", -3, (-3.5, -3.25)),
        ("u4", 100, (400, 1000)),
    ],
)
def test_sparse_objects_on_a_constant_ground_spread(dtype, ground, objects):
    array = np.full((100, 100), ground, dtype)
    array[10:13, 10:13], array[50:52, 50:54] = objects
    array[90, 90] = objects[0]
    scale = Normalization.fit(open_images(array))
    result = scale.apply(array[..., None])[..., 0]
    bright = objects[0] > ground
    assert result[0, 0] == (0 if bright else 1)
    assert result[51, 51] == pytest.approx((objects[1] - scale.low[0]) / (scale.high[0] - scale.low[0]), 1e-3)
    assert sorted([result[0, 0], result[11, 11], result[51, 51]])[::2] == [0, pytest.approx(1, abs=0.01)]
    assert 0.05 < sorted([result[0, 0], result[11, 11], result[51, 51]])[1] < 0.9


def test_a_dead_pixel_beside_sparse_objects_changes_little():
    array = np.full((600, 400), 100, np.uint16)
    array[10:30, 10:30], array[0, 0] = 1000, 0
    scale = Normalization.fit(open_images(array))
    assert (scale.low, scale.high) == ((100,), (1000,))


def test_limits_of_ordinary_images_are_their_percentiles():
    array = RNG.normal(100, 10, (64, 64)).astype(np.float32)
    scale = Normalization.fit(open_images(array))
    assert (scale.low[0], scale.high[0]) == tuple(np.percentile(array, (0.5, 99.8)))


def test_values_for_a_histogram_are_of_a_few_planes_and_finite():
    array = np.zeros((20, 36, 40), np.float32) + np.arange(20)[:, None, None]
    array[0, :18] = np.nan
    values = sample_values(open_images(array), max_planes=3)
    assert values.dtype == np.float32
    assert dict(zip(*np.unique(values, return_counts=True), strict=True)) == {0: 720, 10: 1440, 19: 1440}


def test_sample_is_deterministic_and_bounded(monkeypatch):
    images = open_images(RNG.random((100, 36, 40)))
    read = []
    original = Images.read

    def count(self, plane):
        read.append(plane.index[0])
        return original(self, plane)

    monkeypatch.setattr(Images, "read", count)
    first = Normalization.fit(images, max_planes=5)
    assert read == [0, 25, 50, 74, 99]
    assert Normalization.fit(images, max_planes=5) == first
    assert Normalization.fit(images, planes=images.planes[:2], max_planes=5) != first


def test_brightness_errors(tmp_path):
    grey, colour = Normalization(low=(0,), high=(1,)), Normalization(low=(0, 0, 0), high=(1, 1, 1))
    for scale, pixels in [(grey, RGB), (colour, GREY[..., None]), (grey, GREY)]:
        with pytest.raises(ImageError, match="channel"):
            scale.apply(pixels)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(RGB).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match=r"b\.png has 3 channels but a\.png has 1"):
        Normalization.fit(open_images(tmp_path))
    with pytest.raises(ImageError, match="no image"):
        Normalization.fit(open_images(tmp_path), planes=[])


@pytest.mark.parametrize(
    "fields",
    [
        {"low": (0, 0), "high": (1, 1)},
        {"low": (0,), "high": (0,)},
        {"low": (0,), "high": (float("inf"),)},
        {"low": (0,), "high": (1, 1, 1)},
        {"low": (0,), "high": (1,), "percentiles": (9, 3)},
    ],
)
def test_brightness_is_validated(fields):
    with pytest.raises(ValidationError):
        Normalization(**fields)


def test_images_that_are_joined_are_read_under_their_new_names():
    mine = open_images(np.stack([np.zeros((32, 40), np.uint8), np.full((32, 40), 12, np.uint8)]), name="a")
    others = open_images(np.full((32, 40), 7, np.uint8), name="a").join(
        open_images(np.full((32, 40), 9, np.uint8), name="left"), {"left": "left"}
    )
    joined = mine.join(others, {"a": "b"})
    assert joined.planes == (PlaneId("a", (0,)), PlaneId("a", (1,)), PlaneId("b"))
    assert (joined.read(PlaneId("b")) == 7).all()
    assert (joined.read(PlaneId("a", (1,))) == 12).all()
    few = mine.restrict([PlaneId("a", (1,))]).join(others, {"a": "b"})
    assert few.planes == (PlaneId("a", (1,)), PlaneId("b"))
