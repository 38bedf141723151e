"""Models by name and by path: recognition, import, verification."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from segment_anything import sam_model_registry

from napari_boxprompt.errors import ModelError
from napari_boxprompt.models import (
    download_model,
    home_folder,
    import_model,
    list_models,
    load_frozen,
    model_path,
    models_folder,
    registry,
    verify_model,
)
from napari_boxprompt.models.architectures import build_model, describe_weights, recognise
from napari_boxprompt.models.checkpoints import load_state_dict
from napari_boxprompt.models.litemedsam import embedded_weights


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_BOXPROMPT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def vit_b_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated weights in the published layout of SAM ViT-B."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def other_litemedsam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LiteMedSAM with one weight changed, as after fine-tuning."""
    state = load_state_dict(embedded_weights())
    state["mask_decoder.iou_token.weight"] = state["mask_decoder.iou_token.weight"] + 1
    path = tmp_path_factory.mktemp("tuned") / "tuned.pth"
    torch.save({"model": state}, path)
    return path


def meta_state(architecture: str) -> dict[str, Any]:
    with torch.device("meta"):
        return dict(sam_model_registry[architecture]().state_dict())


@pytest.mark.parametrize("architecture", ["vit_b", "vit_l", "vit_h"])
def test_vit_architectures_are_recognised_and_built(architecture: str, vit_b_file: Path) -> None:
    state = meta_state(architecture)
    assert recognise(state) == architecture
    info = describe_weights(Path(__file__), state, "aa", None)
    assert (info.architecture, info.input_size, info.scaling) == (architecture, 1024, "sam")
    # The small parts are the same in all three; the large encoder stays without memory.
    small = {name: value for name, value in load_state_dict(vit_b_file).items() if "image_enc" not in name}
    model = build_model({**state, **small}, info)
    assert model.info is info
    assert model.no_prompt(2)[1].shape == (2, 256, 64, 64)


def test_the_scaling_of_a_file(tmp_path: Path) -> None:
    state = meta_state("vit_b")
    named = tmp_path / "MedSAM_tuned.pth"
    named.touch()
    assert describe_weights(named, state, "", None).scaling == "unit"
    assert describe_weights(named, state, "", "sam").scaling == "sam"
    here = Path(__file__)
    assert describe_weights(here, state, "", "unit").scaling == "unit"
    assert describe_weights(here, load_state_dict(embedded_weights()), "", None).scaling == "unit"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("image_encoder.pos_embed", (1, 32, 32, 768)),
        ("image_encoder.pos_embed", (1, 64, 64, 384)),
        ("image_encoder.patch_embed.seq.0.c.weight", (32, 3, 3, 3)),
        ("image_encoder.other", (3,)),
    ],
)
def test_other_architectures_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="architecture that cannot be loaded"):
        recognise({name: torch.empty(shape)})


def test_sam_by_path_decodes_like_upstream(vit_b_file: Path) -> None:
    model: Any = load_frozen(str(vit_b_file))
    assert model.info.name == "mine"
    assert model.info.sha256 == hashlib.sha256(vit_b_file.read_bytes()).hexdigest()
    sam = sam_model_registry["vit_b"]()
    sam.load_state_dict(torch.load(vit_b_file, weights_only=True))
    embedding = torch.randn(2, 256, 64, 64)
    boxes = torch.tensor([[10.0, 20, 100, 200], [0, 0, 256, 128]])
    sparse, dense = model.box_prompt(boxes)
    logits, quality = model.decode(embedding, sparse, dense, candidates=True)
    corners = torch.tensor([[80.0, 40, 799, 399], [0, 0, 511, 1023]])
    with torch.no_grad():
        for i in range(2):
            up_sparse, up_dense = sam.prompt_encoder(points=None, boxes=corners[i : i + 1], masks=None)
            masks, iou = sam.mask_decoder(
                embedding[i : i + 1], sam.prompt_encoder.get_dense_pe(), up_sparse, up_dense, True
            )
            torch.testing.assert_close(
                logits[i : i + 1], masks, rtol=0, atol=1e-5 * max(1, masks.abs().max())
            )
            torch.testing.assert_close(quality[i : i + 1], iou, rtol=0, atol=1e-5)


def test_sam_scales_by_mean_and_deviation(vit_b_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = load_frozen(str(vit_b_file))
    seen: list[torch.Tensor] = []

    class Spy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return torch.zeros(len(images), 256, 64, 64)

    monkeypatch.setattr(model._network, "image_encoder", Spy())
    image = torch.rand(1, 3, 1024, 1024)
    assert model.encode(image).shape == (1, 256, 64, 64)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    deviation = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], (image * 255 - mean) / deviation, rtol=1e-5, atol=1e-5)


def test_micro_sam_checkpoint(vit_b_file: Path, tmp_path: Path) -> None:
    state = torch.load(vit_b_file, weights_only=True)
    path = tmp_path / "best.pt"
    torch.save({"model_state": {f"sam.{name}": value for name, value in state.items()}, "epoch": 1}, path)
    assert load_frozen(str(path)).info.architecture == "vit_b"


def test_medsam_put_into_the_folder(vit_b_file: Path) -> None:
    with pytest.raises(ModelError, match="import it"):
        load_frozen("medsam_vit_b")
    models_folder().mkdir(parents=True)
    (models_folder() / "medsam_vit_b.pth").write_bytes(vit_b_file.read_bytes())
    info = load_frozen("medsam_vit_b").info
    assert info.scaling == "unit"
    assert info.sha256 == hashlib.sha256(vit_b_file.read_bytes()).hexdigest()


def test_list_names_and_paths(home: Path) -> None:
    assert [info.name for info in list_models()] == [
        "litemedsam",
        "sam_vit_b",
        "sam_vit_l",
        "sam_vit_h",
        "medsam_vit_b",
    ]
    assert home_folder() == home
    assert model_path("sam_vit_b") == home / "models" / "sam_vit_b_01ec64.pth"
    assert model_path("litemedsam").is_file()
    assert download_model("litemedsam") == model_path("litemedsam")
    with pytest.raises(ModelError, match="use one of litemedsam, sam_vit_b"):
        model_path("sam")
    with pytest.raises(ModelError, match="has not been downloaded"):
        verify_model("sam_vit_h")


def test_home_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_BOXPROMPT_HOME", " ")
    assert "napari-boxprompt" in str(home_folder())


def test_built_in_weights_are_known_under_any_name(tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(embedded_weights().read_bytes())
    assert load_frozen(str(copy)).info.name == "litemedsam"
    assert import_model(copy).name == "litemedsam"
    assert verify_model("litemedsam").licence == "Apache-2.0"


def test_import_and_load_by_name(other_litemedsam: Path) -> None:
    info = import_model(other_litemedsam)
    assert info.name == "tuned"
    assert info.sha256 not in {known.sha256 for known in registry.BUILT_IN}
    assert list_models()[-1] == info
    assert load_frozen("tuned").info == info
    assert verify_model("tuned") == info
    assert model_path("tuned.pth").parent == models_folder()
    assert import_model(other_litemedsam) == info, "importing again changes nothing"
    assert sorted(file.name for file in models_folder().iterdir()) == ["tuned.pth", "tuned.pth.json"]


def test_a_changed_import_is_noticed(other_litemedsam: Path) -> None:
    import_model(other_litemedsam)
    path = model_path("tuned")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ModelError, match="SHA-256"):
        load_frozen("tuned")
    path.unlink()
    with pytest.raises(ModelError, match="import it again"):
        load_frozen("tuned")


def test_names_are_not_taken_twice(other_litemedsam: Path, tmp_path: Path) -> None:
    import_model(other_litemedsam)
    state = load_state_dict(other_litemedsam)
    state["mask_decoder.iou_token.weight"] += 1
    for name in ("tuned.pth", "tuned.pt", "litemedsam.pth", "sam_vit_b_01ec64.pth", "medsam_vit_b.pt"):
        path = tmp_path / name
        torch.save(state, path)
        with pytest.raises(ModelError, match="Another model is called"):
            import_model(path)


def test_imports_that_cannot_be_kept(other_litemedsam: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights file"):
        import_model(tmp_path / "none.pth")
    home.touch()
    with pytest.raises(ModelError, match="NAPARI_BOXPROMPT_HOME"):
        import_model(other_litemedsam)


def test_a_full_disk_leaves_nothing(other_litemedsam: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry.shutil, "copyfile", full)
    with pytest.raises(ModelError, match="too full"):
        import_model(other_litemedsam)
    assert not list(models_folder().iterdir())


def test_records_of_something_else_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    models_folder().mkdir(parents=True)
    (models_folder() / "a.json").write_text("{}")
    (models_folder() / "b.json").write_text("[1")
    assert len(list_models()) == 5
    assert len(caplog.records) == 2
