"""What the user should know about the open project, and what can be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from napari_boxprompt.gui.project_images import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from napari.layers import Image

    from napari_boxprompt.gui.saving import Saving
    from napari_boxprompt.project import Project

__all__ = ["Notice", "about_images", "about_others", "about_writing"]


@dataclass(frozen=True)
class Notice:
    """Something about the project that the user should know, and may do something about.

    Parameters
    ----------
    text : str
        One or two sentences.
    button : str
        What can be done; empty for nothing.
    act : callable, optional
        Does it; None where a folder has to be asked for first, in which to look for images.
    """

    text: str
    button: str = ""
    act: Callable[[], object] | None = None


def about_writing(project: Project, saving: Saving | None, reopen: Callable[..., object]) -> list[Notice]:
    """Say who else works on a project, and whether the disk takes what is done.

    Parameters
    ----------
    project : Project
        The project.
    saving : Saving, optional
        None where it is read-only.
    reopen : callable
        Called with the folder, and ``take_over=True``.
    """
    owner = project.owner
    if owner is not None:
        text = f"Read-only: {owner.user} on {owner.host} works on it. What you do here is not kept."
        # A lock of this computer ends with its process, so that there is nothing to take over.
        act = None if owner.is_here else partial(reopen, project.folder, take_over=True)
        return [Notice(text, "" if act is None else "Take over", act)]
    if project.read_only:
        return [Notice(" ".join(project.problems[:1]) or "Read-only: what you do here is not kept.")]
    if saving is not None and saving.refused:
        return [Notice(saving.refused, "Try again", saving.save)]
    return [Notice(text) for text in project.problems if text.startswith(("This drive", "Line"))]


def about_images(project: Project, confirm: Callable[[str], object]) -> list[Notice]:
    """Say which images are missing or have changed."""
    found = []
    for name in project.changed:
        text = f"{name} has changed since it was worked on, and is not shown."
        can = not project.read_only
        found.append(Notice(text, "It is right" if can else "", partial(confirm, name) if can else None))
    if project.missing:
        first, *others = project.missing
        text = f"{first} and {len(others)} more are" if others else f"{first} is"
        text += " not found any more."
        found.append(Notice(text, "Look in …"))
    return found


def about_others(
    layers: Sequence[Image], keep: Callable[[Sequence[Image]], object], refused: Collection[str] = ()
) -> list[Notice]:
    """Say which images are worked on that the project does not have; of those refused, no file will do."""
    return [
        Notice(
            f"{layer.name} is not in the project: boxes on it are not kept.",
            "Keep a copy" if file_of(layer) is None or layer.name in refused else "Keep it",
            partial(keep, [layer]),
        )
        for layer in layers
    ]
