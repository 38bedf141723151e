"""Pages written from the code at build time: command line, settings, models, keys and one page a module."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer.main
import yaml
from pydantic_core import PydanticUndefined

import napari_boxprompt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from sphinx.application import Sphinx

HIDDEN = {"napari_boxprompt.cli", "napari_boxprompt.gui"}


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", lambda app, _: write_pages(Path(app.srcdir) / "_generated"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(folder: Path) -> None:
    pages = {"cli.md": cli_page(), "settings.md": settings_page(), "models.md": models_table()}
    pages |= {"keys.md": keys_tables(), "preferences.md": preferences_table()}
    modules = list(public_modules())
    pages |= {f"api/{name}.md": module_page(name) for name in modules}
    pages["api/index.md"] = api_page(modules)
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()


# --- Command line


def cli_page() -> str:
    from napari_boxprompt.cli.app import app

    root = typer.main.get_command(app)
    lines = ["# Command line", "", "Options that stand before the command:", ""]
    lines += parameter_table(root)
    for path, command in commands(root, "boxprompt"):
        lines += [f"## {path}", "", (command.help or "").strip(), ""]
        lines += ["```text", usage(path, command), "```", ""]
        lines += parameter_table(command)
    return "\n".join(lines) + "\n"


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def usage(path: str, command: Any) -> str:
    words = [path]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words.append(parameter.name.upper())
        elif parameter.required:
            words.append(f"{parameter.opts[0]} {parameter.name.rstrip('_').upper()}")
    return " ".join([*words, "[OPTIONS]"])


def parameter_table(command: Any) -> list[str]:
    rows = [
        (parameter_name(parameter), getattr(parameter, "help", None) or "", parameter_default(parameter))
        for parameter in command.params
        if parameter.name not in ("help", "install_completion", "show_completion")
    ]
    return table(("", "meaning", "default"), rows)


def parameter_name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return code(parameter.name.upper())
    return " ".join(code(word) for word in (*parameter.opts, *parameter.secondary_opts))


def parameter_default(parameter: Any) -> str:
    if parameter.required:
        return "needed"
    if parameter.default is None or parameter.default is False or callable(parameter.default):
        return ""
    if parameter.default is True:
        return code(parameter.opts[0])
    return code(parameter.default)


# --- Settings


def settings_page() -> str:
    from napari_boxprompt.config import PRESETS, AugmentConfig, LossConfig, TrainConfig

    lines = [
        "# Settings",
        "",
        "Every setting of a training, with its default in the preset `balanced`. On the command line they",
        "are given as `--set NAME=VALUE`, for instance `--set steps=400 --set loss.size=0.02`; in Python as",
        "arguments of `train`, for instance `train(images, boxes, steps=400, loss={'size': 0.02})`. All of",
        "them are saved in the trained model.",
        "",
    ]
    head = ("name", "in the widget", "meaning", "range", "default")
    lines += ["## Training", "", *table(head, field_rows(TrainConfig, ""))]
    lines += ["## Box constraints", "", *table(head, field_rows(LossConfig, "loss."))]
    lines += ["## Augmented views", "", *table(head, field_rows(AugmentConfig, "augment."))]
    lines += ["## Presets", "", *table(("preset", "differs from the defaults in"), preset_rows(PRESETS))]
    return "\n".join(lines) + "\n"


def field_rows(model: type[BaseModel], prefix: str) -> list[tuple[str, ...]]:
    return [
        (
            code(prefix + name),
            field.title or "",
            field.description or "",
            field_range(field),
            code(field.default),
        )
        for name, field in model.model_fields.items()
        if field.default is not PydanticUndefined
    ]


def field_range(field: FieldInfo) -> str:
    choices = [
        value
        for kind in (field.annotation, *get_args(field.annotation))
        for value in get_args(kind)
        if isinstance(value, str)
    ]
    limits = {"from": "ge", "above": "gt", "to": "le", "below": "lt"}
    words = [
        f"{word} {getattr(limit, name):,.10g}"
        for word, name in limits.items()
        for limit in field.metadata
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([*dict.fromkeys(code(value) for value in choices), *words])


def preset_rows(presets: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (code(name), ", ".join(code(f"{key}={value}") for key, value in flat(changes)) or "nothing")
        for name, changes in presets.items()
    ]


def flat(changes: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in changes.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# --- Frozen models


def models_table() -> str:
    from napari_boxprompt.models.registry import BUILT_IN

    head = ("name", "what it is", "input", "licence", "sha256 begins")
    rows = [
        (
            code(info.name),
            info.description,
            f"{info.input_size} px",
            info.licence,
            code(info.sha256[:12]) if info.sha256 else "none published",
        )
        for info in BUILT_IN
    ]
    return "---\norphan: true\n---\n\n" + "\n".join(table(head, rows))


# --- The dock widget, without napari or Qt


def keys_tables() -> str:
    from napari_boxprompt.gui.keys import BOX_KEYS, REVIEW_KEYS, STOP_KEYS

    parts = {
        "On the boxes layer": [("**1** to **9**", "class of the next box, and of selected boxes")],
        "On a layer of objects": [],
        "On both, while something runs": [],
    }
    for rows, keys in zip(parts.values(), (BOX_KEYS, REVIEW_KEYS, STOP_KEYS), strict=True):
        rows += [(f"**{key.key.replace('Control', 'Ctrl').replace('-', '+')}**", key.text) for key in keys]
    lines = ["---", "orphan: true", "---", ""]
    for title, rows in parts.items():
        lines += table((title, ""), rows)
    return "\n".join(lines)


def preferences_table() -> str:
    manifest = Path(napari_boxprompt.__file__).with_name("napari.yaml")
    groups = yaml.safe_load(manifest.read_text(encoding="utf-8"))["contributions"]["configurations"]
    rows = [
        (info["title"], info["description"], code(info["default"]) if info["default"] != "" else "")
        for group in groups.values()
        for info in group["properties"].values()
    ]
    return "\n".join(["---", "orphan: true", "---", "", *table(("name", "meaning", "default"), rows)])


# --- Python


def public_modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(napari_boxprompt.__path__, "napari_boxprompt."):
        parts = found.name.split(".")
        hidden = any(part.startswith("_") for part in parts) or ".".join(parts[:2]) in HIDDEN
        if not hidden and (not found.ispkg or own_names(found.name)):
            yield found.name


def own_names(package: str) -> list[str]:
    """Names a package defines in its own ``__init__`` file, not those it passes on."""
    module = importlib.import_module(package)
    public = getattr(module, "__all__", ())
    return [name for name in public if getattr(getattr(module, name), "__module__", "") == package]


def api_page(modules: list[str]) -> str:
    names = [
        (code(name), code(home), summary(name))
        for name, home in ((name, defined_in(name)) for name in napari_boxprompt.__all__)
    ]
    lines = [
        "# Python",
        "",
        "What scripts need can be imported from `napari_boxprompt` itself:",
        "",
        *table(("name", "described in", ""), names),
        "Everything below is the same code that the command line runs. Coordinates are `(y0, x0, y1, x1)` in",
        "pixels, half-open: pixel `(r, c)` covers `[r, r + 1) x [c, c + 1)`.",
        "",
        "```{toctree}",
        ":maxdepth: 1",
        "",
        *modules,
        "```",
    ]
    return "\n".join(lines) + "\n"


def defined_in(name: str) -> str:
    home = str(getattr(napari_boxprompt, name).__module__)
    return home.rpartition("._")[0] + ".boxes" if "._" in home else home


def summary(name: str) -> str:
    return (getattr(napari_boxprompt, name).__doc__ or "").strip().partition("\n")[0]


def module_page(name: str) -> str:
    short = name.removeprefix("napari_boxprompt.")
    passes_on = hasattr(importlib.import_module(name), "__path__")
    only = f"\n   :members: {', '.join(own_names(name))}" if passes_on else ""
    return f"# {short}\n\n```{{eval-rst}}\n.. automodule:: {name}{only}\n```\n"


# --- Markdown


def code(value: object) -> str:
    return f"`{value}`"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), line(("---",) * len(head)), *map(line, rows), ""]
