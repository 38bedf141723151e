"""What is published: manifest, metadata and the version they agree on."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import npe2
import pytest
import yaml

import napari_boxprompt

ROOT = Path(__file__).parents[1]
MANIFEST = ROOT / "src" / "napari_boxprompt" / "napari.yaml"


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_manifest_is_valid() -> None:
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    assert manifest.name == "napari-boxprompt"
    assert {category.value for category in manifest.categories} == {"Segmentation", "Annotation"}


def test_manifest_at_the_top_is_the_one_in_the_package() -> None:
    top = (ROOT / "napari.yaml").read_text(encoding="utf-8")
    # Without symbolic links, as on Windows, git checks a link out as a file that holds its target.
    assert top in (MANIFEST.read_text(encoding="utf-8"), MANIFEST.relative_to(ROOT).as_posix())


def test_commands_have_our_prefix() -> None:
    commands = npe2.PluginManifest.from_file(MANIFEST).contributions.commands or []
    assert all(command.id.startswith("napari-boxprompt.") for command in commands)


def test_napari_finds_the_manifest() -> None:
    (entry,) = entry_points(group="napari.manifest", name="napari-boxprompt")
    module, _, file = entry.value.partition(":")
    assert (module, file) == ("napari_boxprompt", MANIFEST.name)


def test_version_is_the_same_everywhere(project: dict[str, object]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^]]*)\]", changelog, flags=re.MULTILINE)
    assert project["version"] == napari_boxprompt.__version__ == citation["version"] == released[0]


def test_no_upper_caps(project: dict[str, object]) -> None:
    dependencies = project["dependencies"]
    assert isinstance(dependencies, list)
    assert not [line for line in dependencies if re.search(r"<|==|~=", line)]


def test_base_installs_neither_viewer_nor_qt(project: dict[str, object]) -> None:
    dependencies = project["dependencies"]
    assert isinstance(dependencies, list)
    names = {re.split(r"[<>=\[; ]", line)[0].lower() for line in dependencies}
    assert not names & {"napari", "pyqt5", "pyqt6", "pyside2", "pyside6"}


def test_public_names_exist() -> None:
    assert all(hasattr(napari_boxprompt, name) for name in napari_boxprompt.__all__)
    assert sorted(napari_boxprompt.__all__) == napari_boxprompt.__all__
