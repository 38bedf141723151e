"""A labelling project on disk: plain files, a journal, one writer at a time."""

from __future__ import annotations

from napari_boxprompt.project.archive import pack, unpack
from napari_boxprompt.project.documents import (
    SETTLED,
    STATUSES,
    ImageEntry,
    Look,
    MaskFile,
    PlaneRecord,
    Status,
)
from napari_boxprompt.project.exchange import ExportKind, export_project, import_into
from napari_boxprompt.project.lessons import ClassMasks, Lessons, project_lessons
from napari_boxprompt.project.lock import LockOwner
from napari_boxprompt.project.masks import Mask
from napari_boxprompt.project.project import Project
from napari_boxprompt.project.proposals import keep_proposal, take_classes, unsettled
from napari_boxprompt.project.rounds import (
    Round,
    Verdict,
    best_round,
    describe,
    name_of,
    newest_model,
    verdict,
)
from napari_boxprompt.project.storage import is_project

__all__ = [
    "SETTLED",
    "STATUSES",
    "ClassMasks",
    "ExportKind",
    "ImageEntry",
    "Lessons",
    "LockOwner",
    "Look",
    "Mask",
    "MaskFile",
    "PlaneRecord",
    "Project",
    "Round",
    "Status",
    "Verdict",
    "best_round",
    "describe",
    "export_project",
    "import_into",
    "is_project",
    "keep_proposal",
    "name_of",
    "newest_model",
    "pack",
    "project_lessons",
    "take_classes",
    "unpack",
    "unsettled",
    "verdict",
]
