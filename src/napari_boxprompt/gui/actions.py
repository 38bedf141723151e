"""What the user can ask for, by button, key or command; each asks for files where it needs them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info, show_warning
from psygnal import Signal
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui import exchange
from napari_boxprompt.gui.backend import load_backend
from napari_boxprompt.gui.from_file import boxes_from_file
from napari_boxprompt.gui.from_shapes import boxes_from_shapes
from napari_boxprompt.gui.on_screen import boxes_on_screen, boxes_to_draw, plane_on_screen
from napari_boxprompt.gui.outlined import boxes_from_all_labels, boxes_from_labels
from napari_boxprompt.gui.panel_actions import PanelActions
from napari_boxprompt.gui.projects import OPENING
from napari_boxprompt.gui.samples import open_sample
from napari_boxprompt.gui.settings import plugin_settings
from napari_boxprompt.gui.telling import counted, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_boxprompt.gui.asking import StopRow
    from napari_boxprompt.gui.from_preview import FromPreview
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.predicting import Predicting
    from napari_boxprompt.gui.project_actions import ProjectActions
    from napari_boxprompt.gui.review import Review
    from napari_boxprompt.gui.rounds import RoundBook
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.trainer import Trainer
    from napari_boxprompt.gui.widget import BoxPromptWidget

__all__ = ["Actions"]

BOX_FILES = "Boxes (*.json *.txt);;All files (*)"
TIFF_FILES = "OME-TIFF (*.ome.tif);;TIFF (*.tif)"


class Actions(PanelActions):
    """Actions of one dock widget.

    Parameters
    ----------
    parent : BoxPromptWidget
        Parent of file dialogs, with the panels.
    session, jobs, trainer, predicting, from_preview, review, book
        What the actions work on.
    start : callable
        Starts a training with the settings that the user sees.
    show_keys : callable
        Brings the table of keys into sight.
    about_project : ProjectActions
        What is asked for about projects.
    asking : StopRow
        Asks whether to stop what runs.

    Attributes
    ----------
    writing : psygnal.Signal
        Emitted with the name of a file of labels that is being written, and with an empty one at its end.
    """

    writing = Signal(str)

    def __init__(
        self,
        parent: BoxPromptWidget,
        session: Session,
        jobs: Jobs,
        trainer: Trainer,
        predicting: Predicting,
        from_preview: FromPreview,
        review: Review,
        book: RoundBook,
        start: Callable[[], object],
        show_keys: Callable[[], object],
        about_project: ProjectActions,
        asking: StopRow,
    ) -> None:
        super().__init__(parent)
        self._parent, self._session, self._jobs = parent, session, jobs
        self._trainer, self._predicting, self._review = trainer, predicting, review
        self._from_preview, self._book = from_preview, book
        self._start, self._show_keys = start, show_keys
        self._about_project, self._asking = about_project, asking

    @told
    def new_boxes_layer(self) -> None:
        """Add a boxes layer, or take the one there is in hand, in rectangle mode."""
        boxes_to_draw(self._session)

    @told
    def toggle_complete(self) -> None:
        """Mark the plane on screen complete, or no longer complete."""
        boxes_on_screen(self._session).toggle_complete(plane_on_screen(self._session))

    @told
    def draw_complete_region(self) -> None:
        """Draw rectangles inside which every object has its box."""
        layer = boxes_on_screen(self._session).complete_layer()
        self._session.viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"

    @told
    def undo(self) -> None:
        """Take back the last change of boxes."""
        boxes_on_screen(self._session).undo()

    @told
    def redo(self) -> None:
        """Do again what was taken back."""
        boxes_on_screen(self._session).redo()

    @told
    def fix_boxes(self) -> None:
        """Mend the boxes whose problem can be mended."""
        if not boxes_on_screen(self._session).fix():
            show_info("No box needs mending, or none can be mended by itself.")

    @told
    def boxes_from_file(self) -> None:
        """Ask for a COCO or YOLO file and add its boxes to the open images that they belong to."""
        path, _ = QFileDialog.getOpenFileName(self._parent, "Boxes", "", BOX_FILES)
        if path:
            added = boxes_from_file(self._session, path)
            (show_warning if added.left_out else show_info)(str(added))

    @told
    def boxes_from_labels(self) -> None:
        """Draw a box round each object that a Labels layer has on the plane on screen."""
        show_info(f"{counted(boxes_from_labels(self._session), 'box was', 'boxes were')} added.")

    @told
    def boxes_from_all_labels(self) -> None:
        """Draw a box round each object that a Labels layer has on any plane."""
        boxes_from_all_labels(
            self._session,
            self._jobs,
            lambda count: show_info(f"{counted(count, 'box was', 'boxes were')} added."),
        )

    @told
    def boxes_from_shapes(self) -> None:
        """Take over the rectangles of a Shapes layer of the user's own."""
        count, left_out = boxes_from_shapes(self._session)
        added = f"{counted(count, 'box was', 'boxes were')} added."
        if left_out:
            show_warning(f"{added} {left_out}")
        else:
            show_info(added)

    @told
    def box_from_object(self) -> None:
        """Draw a box round the object under the cursor, or the selected one, of a Labels layer."""
        boxes_from_labels(self._session, one=True)

    def start_training(self) -> None:
        """Train."""
        self._start()

    def stop(self) -> None:
        """Stop all work and keep what it has."""
        self._jobs.stop_all()

    @property
    def busy(self) -> bool:
        """Whether there is a training or a prediction to stop."""
        return self._asking.busy

    def ask_to_stop(self) -> None:
        """Ask in the dock whether to stop the training or prediction; when asked already, stop it."""
        self._asking.ask()

    @told
    def predict_plane(self) -> None:
        """Segment the plane on screen."""
        self._predicting.plane()

    @told
    def predict_all(self) -> None:
        """Segment all planes."""
        self._predicting.planes()

    @told
    def use_preview(self) -> None:
        """Take what the preview shows of the plane on screen as the result."""
        self._from_preview.plane()

    @told
    def predict_folder(self) -> None:
        """Ask for a folder of images and one for results, and segment."""
        source = QFileDialog.getExistingDirectory(self._parent, "Folder of images to segment")
        out = QFileDialog.getExistingDirectory(self._parent, "Folder for the masks") if source else ""
        if out:
            self._predicting.folder(source, out)

    def next_plane(self) -> None:
        """Go to the plane that most needs a look."""
        self._review.next()

    def previous_plane(self) -> None:
        """Go back to the plane looked at before."""
        self._review.previous()

    def accept_plane(self) -> None:
        """Accept the plane on screen."""
        self._review.accept()

    def reject_plane(self) -> None:
        """Reject the plane on screen."""
        self._review.reject()

    def edit_plane(self) -> None:
        """Paint on the objects of the plane on screen."""
        self._review.edit()

    @told
    def save_model(self) -> None:
        """Ask for a name and save the model."""
        if self._session.trained is None:
            raise BoxPromptError("There is no model to save yet: train one first.")
        path, _ = QFileDialog.getSaveFileName(self._parent, "Save model (a folder is made)", "model")
        if path:
            self._session.trained.save(path)
            show_info(f"The model is in {path}.")

    @told
    def load_model(self) -> None:
        """Ask for a folder and load the model in it."""
        path = QFileDialog.getExistingDirectory(self._parent, "Folder of a saved model")
        if path:
            taken = partial(self._book.take_up, folder=path)
            exchange.load_model(self._jobs, path, plugin_settings(), taken)

    @told
    def export_labels(self) -> None:
        """Ask for a file and write the labels to it."""
        result = self._session.result
        name = "labels.ome.tif" if result is None else f"{result.view.name} labels.ome.tif"
        path, kind = self._ask_name("Export labels", name, TIFF_FILES)
        if path:
            place, ended = exchange.named(path, kind), partial(self.writing.emit, "")
            exchange.export_labels(self._jobs, result, place, show_info, ended)
            self.writing.emit(place.name)

    @told
    def export_boxes(self) -> None:
        """Ask for a file and write the boxes to it."""
        path, kind = self._ask_name("Export boxes", "boxes.json", "COCO (*.json)")
        if path:
            place = exchange.named(path, kind)
            count = exchange.save_boxes(self._session, place)
            show_info(f"{place.name} has {count} boxes; it is in {place.parent}.")

    def _ask_name(self, title: str, name: str, kinds: str) -> tuple[str, str]:
        """Ask for a file to write, beside the image at first; return it and the kind that was chosen."""
        place = exchange.proposed(self._session, name)
        path, kind = QFileDialog.getSaveFileName(self._parent, title, place, kinds)
        return path, kind

    @told
    def copy_command(self) -> None:
        """Copy the command that repeats the last training; what it needs is written beside it."""
        load_backend()
        from napari_boxprompt.models import home_folder

        if self._trainer.last is None:
            raise BoxPromptError("There is nothing to repeat yet: train first.")
        folder = home_folder() / "sessions" / datetime.now().strftime("%Y-%m-%d %H-%M-%S")

        def copy(text: str) -> None:
            QApplication.clipboard().setText(text)
            show_info(f"The commands are on the clipboard; what they need is in {folder}.")

        work = partial(
            exchange.repeat_command,
            task=self._trainer.last,
            sources=exchange.source_files(self._session),
            folder=folder,
        )
        self._jobs.start("copying the command", work, on_result=copy)

    def show_keys(self) -> None:
        """Show the keys of our layers."""
        self._show_keys()

    @told
    def open_sample(self) -> None:
        """Open the nuclei stack, or the synthetic cells where its package is missing."""
        if self._jobs.running(OPENING):
            raise BoxPromptError("A project is being opened; wait until it is there.")
        open_sample(self._session.viewer)

    def new_project(self) -> None:
        """Ask for a name and make a project about the open images."""
        self._about_project.new()

    def open_project(self) -> None:
        """Ask for a folder and open the project in it."""
        self._about_project.open()

    def open_recent_project(self) -> None:
        """Open the project that was open last."""
        self._about_project.open_recent()

    def close_project(self) -> None:
        """Save the project and take its layers away."""
        self._about_project.close()

    def export_project(self) -> None:
        """Ask for a form and a place and export the project."""
        self._about_project.export()

    def zip_project(self) -> None:
        """Ask for a file and pack the project with its images into it."""
        self._about_project.zip()
