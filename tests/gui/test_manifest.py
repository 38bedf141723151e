"""The manifest: every name in it resolves, and its commands reach the widget of a real viewer."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("napari", reason="napari is not installed")
pytest.importorskip("pytestqt", reason="pytest-qt is not installed")

from npe2 import PluginManifest
from qtpy.QtWidgets import QWidget

import napari_boxprompt
from napari_boxprompt.gui import commands
from napari_boxprompt.gui.actions import Actions
from napari_boxprompt.models import list_models

MANIFEST = Path(napari_boxprompt.__file__).with_name("napari.yaml")
PLUGIN = "napari-boxprompt"
WIDGET = "napari_boxprompt.gui.widget"

MakeViewer = Callable[..., Any]


def read_manifest() -> PluginManifest:
    return PluginManifest.from_file(MANIFEST)


COMMANDS = {command.id: command for command in read_manifest().contributions.commands or ()}
ACTIONS = sorted(
    command.id
    for command in COMMANDS.values()
    if (command.python_name or "").startswith("napari_boxprompt.gui.commands:")
)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[QWidget]:
    """A widget that notes what it is asked to do, in the place of the real one."""

    class BoxPromptWidget(QWidget):
        made: list["BoxPromptWidget"] = []  # noqa: RUF012

        def __init__(self, napari_viewer: Any) -> None:
            super().__init__()
            self.viewer = napari_viewer
            self.calls: list[str] = []
            self.actions = self
            self.made.append(self)

        def __getattr__(self, name: str) -> Callable[[], None]:
            if f"{PLUGIN}.{name}" not in ACTIONS:
                raise AttributeError(name)
            return lambda: self.calls.append(name)

    module = ModuleType(WIDGET)
    module.BoxPromptWidget = BoxPromptWidget  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, WIDGET, module)
    return BoxPromptWidget


@pytest.fixture
def viewer(stub: type[QWidget], npe2pm: Any, make_napari_viewer_proxy: MakeViewer) -> Iterator[Any]:
    """A real viewer that knows our plugin and no other."""
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        yield make_napari_viewer_proxy()


@pytest.fixture
def app(viewer: Any) -> Any:
    """What the palette and the menus run commands through. It is private; only tests touch it."""
    from napari._app_model import get_app_model

    return get_app_model()


def titles(app: Any, menu: str) -> list[str]:
    return [
        item.command.title
        for group in app.menus.iter_menu_groups(menu)
        for item in group
        if hasattr(item, "command") and item.command.id.startswith(f"{PLUGIN}.")
    ]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_resolves(name: str) -> None:
    assert name.startswith(f"{PLUGIN}.")
    python_name = COMMANDS[name].python_name
    assert python_name is not None
    module, _, attribute = python_name.partition(":")
    assert callable(getattr(import_module(module), attribute))


def test_every_function_is_a_command() -> None:
    functions = set(commands.__all__) - {"PLUGIN", "WIDGET", "open_widget"}
    assert {f"{PLUGIN}.{name}" for name in functions} == set(ACTIONS)


@pytest.mark.parametrize("name", ACTIONS)
def test_there_is_an_action(name: str) -> None:
    method = getattr(Actions, name.removeprefix(f"{PLUGIN}."))
    first, *others = inspect.signature(method).parameters.values()
    assert first.name == "self"
    assert all(parameter.default is not inspect.Parameter.empty for parameter in others)


def test_every_action_is_a_command() -> None:
    methods = {
        name for name, _ in inspect.getmembers(Actions, inspect.isfunction) if not name.startswith("_")
    }
    assert {f"{PLUGIN}.{name}" for name in methods} == set(ACTIONS)


def test_titles_are_short_and_different() -> None:
    found = [command.title for command in COMMANDS.values()]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[A-Z].{2,43}", title) for title in found)


def test_menus_are_ones_that_napari_lets_us_fill() -> None:
    from napari._app_model.constants._menus import is_menu_contributable

    menus = read_manifest().contributions.menus
    assert set(menus) == {"napari/layers/segment", "napari/layers/annotate"}
    assert all(is_menu_contributable(menu) for menu in menus)


def test_a_menu_and_a_script_open_the_same_dock() -> None:
    # napari names the dock after the display name in one case and after the name in the other.
    manifest = read_manifest()
    assert manifest.display_name == manifest.name == commands.PLUGIN
    assert [widget.display_name for widget in manifest.contributions.widgets or ()] == [commands.WIDGET]


def test_default_model_exists() -> None:
    (model,) = [
        group.properties["model"]
        for group in read_manifest().contributions.configurations.values()
        if "model" in group.properties
    ]
    assert model.default in {info.name for info in list_models()}


def test_palette_and_menus(app: Any) -> None:
    from app_model.registries import MenusRegistry

    palette = titles(app, MenusRegistry.COMMAND_PALETTE_ID)
    for name in ACTIONS:
        assert name in app.commands
        assert f"{COMMANDS[name].title} ({PLUGIN})" in palette
    assert titles(app, "napari/layers/segment") == [
        f"Box prompt ({PLUGIN})",
        f"Train on the boxes ({PLUGIN})",
        f"Predict this plane ({PLUGIN})",
        f"Predict all planes ({PLUGIN})",
    ]
    assert titles(app, "napari/layers/annotate")[0] == f"New boxes layer ({PLUGIN})"
    assert titles(app, f"napari/file/samples/{PLUGIN}") == ["Nuclei 3-D", "Synthetic cells"]


@pytest.mark.usefixtures("viewer")
def test_commands_reach_the_widget(app: Any, stub: Any) -> None:
    for name in ACTIONS:
        app.commands.execute_command(name).result()
    (widget,) = stub.made
    assert [f"{PLUGIN}.{call}" for call in widget.calls] == ACTIONS


def test_command_finds_the_dock_that_a_menu_opened(app: Any, viewer: Any, stub: Any) -> None:
    app.commands.execute_command(f"{PLUGIN}.widget")
    app.commands.execute_command(f"{PLUGIN}.undo")
    (widget,) = stub.made
    assert widget.calls == ["undo"]
    assert list(viewer.window.dock_widgets) == [f"Box prompt ({PLUGIN})"]


def test_command_shows_a_hidden_dock(app: Any, viewer: Any, stub: Any) -> None:
    app.commands.execute_command(f"{PLUGIN}.undo")
    (widget,) = stub.made
    widget.parent().hide()
    app.commands.execute_command(f"{PLUGIN}.redo")
    assert not widget.parent().isHidden()
    assert widget.calls == ["undo", "redo"]


def test_command_opens_a_new_dock_after_the_old_one_was_closed(app: Any, stub: Any) -> None:
    app.commands.execute_command(f"{PLUGIN}.undo")
    stub.made[0].parent().destroyOnClose()
    app.commands.execute_command(f"{PLUGIN}.redo")
    assert [widget.calls for widget in stub.made] == [["undo"], ["redo"]]
