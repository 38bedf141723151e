"""What menus and small buttons of the panels do, also as commands: nothing needs a hand on the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.on_screen import boxes_on_screen
from napari_boxprompt.gui.telling import told

if TYPE_CHECKING:
    from napari_boxprompt.gui.widget import BoxPromptWidget

__all__ = ["PanelActions"]


class PanelActions:
    """Actions that a panel of the dock widget carries out.

    Parameters
    ----------
    widget : BoxPromptWidget
        With its panels; they are asked for when an action is called.
    """

    def __init__(self, widget: BoxPromptWidget) -> None:
        self._widget = widget

    @told
    def contrast_auto(self) -> None:
        """Have the contrast measured."""
        self._image()
        self._widget.image_panel.measure()

    @told
    def contrast_like_layer(self) -> None:
        """Take the contrast that the image layer is shown with."""
        self._image()
        self._widget.image_panel.take_layer()

    @told
    def next_class(self) -> None:
        """Choose the next class for the next box, after the last one the first."""
        boxes = boxes_on_screen(self._widget.session)
        boxes.choose_class((boxes.classes.chosen + 1) % len(boxes.classes.items))

    @told
    def add_class(self) -> None:
        """Ask for the name of a new class."""
        boxes_on_screen(self._widget.session)
        self._widget.boxes_panel.classes.ask_new()

    @told
    def rename_class(self) -> None:
        """Ask for another name of the class of the next box."""
        classes = boxes_on_screen(self._widget.session).classes
        self._widget.boxes_panel.classes.ask_name(classes.chosen, classes.current.name)

    @told
    def recolor_class(self) -> None:
        """Ask for another colour of the class of the next box."""
        self._widget.boxes_panel.classes.ask_color(boxes_on_screen(self._widget.session).classes.chosen)

    @told
    def remove_class(self) -> None:
        """Remove the class of the next box, with its boxes; undo brings both back."""
        boxes = boxes_on_screen(self._widget.session)
        boxes.remove_class(boxes.classes.chosen)

    @told
    def bring_boxes_back(self) -> None:
        """Make a layer again of the boxes that were deleted with theirs."""
        self._widget.deleted.bring_back()

    @told
    def toggle_preview(self) -> None:
        """Show the masks of the boxes, or do not."""
        boxes_on_screen(self._widget.session)
        self._widget.boxes_panel.preview.toggle()

    @told
    def predict_some(self) -> None:
        """Ask which planes to segment."""
        if self._widget.session.trained is None:
            raise BoxPromptError("There is no model yet: train one, or load one.")
        self._image()
        self._widget.sections["Predict"].open()
        self._widget.predict_panel.ask_range()

    @told
    def predict_others(self) -> None:
        """Segment all other open images."""
        self._widget.predicting.others()

    def predict_unopened(self) -> None:
        """Segment the images of the project that are not open."""
        self._widget.predict_panel.predict_unopened()

    def compare_views(self) -> None:
        """Compare two views of each plane from the next prediction on, or do not any more."""
        self._widget.predict_panel.compare.toggle()

    @told
    def take_round_back(self) -> None:
        """Make the model before the last one predict again."""
        self._widget.rounds.take_back()

    def import_into_project(self) -> None:
        """Ask for a file of boxes or masks and take it into the project."""
        self._widget.project.actions.bring_in()

    def new_project_of_folder(self) -> None:
        """Ask for a folder of images and for a place, and make a project about all of them."""
        self._widget.project.actions.new_of_folder()

    def open_project_zip(self) -> None:
        """Ask for a zip of a project and for a new folder, and open it there."""
        self._widget.project.actions.open_zip()

    def _image(self) -> None:
        if self._widget.session.view is None:
            raise BoxPromptError("There is no image; open one, or choose it under Image.")
