"""Preferences: what the manifest declares is what the code reads, with and without napari knowing us."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari", reason="napari is not installed")

import torch
from napari.settings import get_plugin_settings
from pydantic import ValidationError

import napari_boxprompt
from napari_boxprompt.gui.settings import PluginSettings, make_cache, plugin_settings
from napari_boxprompt.models.home import HOME_VARIABLE

PLUGIN = "napari-boxprompt"
MANIFEST = Path(napari_boxprompt.__file__).with_name("napari.yaml")
ENTRY = torch.zeros(1000)


def key(number: int) -> str:
    return f"{number:064x}"


def kept_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.zarr"))


@pytest.fixture
def alone(request: pytest.FixtureRequest) -> None:
    """No plugin is known, and preferences lie in a folder of this test."""
    request.getfixturevalue("plugin_settings")  # napari's fixture, which has the name of what is tested


@pytest.fixture
def preferences(npe2pm: Any, alone: None) -> Iterator[Any]:
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        yield get_plugin_settings(PLUGIN)


def test_manifest_and_code_have_the_same_defaults(preferences: Any) -> None:
    assert plugin_settings() == PluginSettings()


@pytest.mark.usefixtures("alone")
def test_defaults_where_napari_does_not_know_the_plugin() -> None:
    assert plugin_settings() == PluginSettings()


def test_reads_what_the_user_chose(preferences: Any, tmp_path: Path) -> None:
    preferences.computing.device = "cpu"
    preferences.computing.model = "sam_vit_b"
    preferences.storage.folder = f" {tmp_path} "
    preferences.storage.size = 2.5
    assert plugin_settings() == PluginSettings("cpu", "sam_vit_b", tmp_path, 2.5)


def test_an_emptied_model_is_the_default_one(preferences: Any) -> None:
    preferences.computing.model = "  "
    assert plugin_settings().model == "litemedsam"


def test_home_folder_is_written_out(preferences: Any) -> None:
    preferences.storage.folder = "~/encoded"
    assert plugin_settings().cache_folder == Path.home() / "encoded"


def test_napari_refuses_what_makes_no_sense(preferences: Any) -> None:
    with pytest.raises(ValidationError):
        preferences.computing.device = "abacus"
    with pytest.raises(ValidationError):
        preferences.storage.size = -1.0


def test_choices_survive_a_restart(preferences: Any) -> None:
    preferences.computing.device = "cpu"
    assert "device: cpu" in Path(preferences.config_path).read_text(encoding="utf-8")


def test_folder_variable_is_not_taken_for_a_preference(
    npe2pm: Any, alone: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # napari reads NAPARI_GROUP_SETTING from the environment as preferences of every plugin.
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        assert plugin_settings() == PluginSettings()


def test_cache_lies_in_the_usual_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    make_cache(PluginSettings()).put(key(1), ENTRY)
    assert len(kept_in(tmp_path / "embeddings")) == 1


def test_cache_lies_in_the_chosen_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "usual"))
    make_cache(PluginSettings(cache_folder=tmp_path / "chosen")).put(key(1), ENTRY)
    assert len(kept_in(tmp_path / "chosen")) == 1
    assert not (tmp_path / "usual").exists()


def test_cache_stays_below_its_size(tmp_path: Path) -> None:
    bytes_in_all = 12_000  # room for two entries
    cache = make_cache(PluginSettings(cache_folder=tmp_path, cache_gb=bytes_in_all / 2**30))
    for number in range(5):
        cache.put(key(number), ENTRY)
    assert 0 < sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) <= bytes_in_all


def test_size_zero_keeps_nothing_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    cache = make_cache(PluginSettings(cache_folder=tmp_path, cache_gb=0.0))
    cache.put(key(1), ENTRY)
    assert not list(tmp_path.iterdir())
    assert cache.get(key(1)) is not None
