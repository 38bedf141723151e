"""Commands of the palette and the menus: each opens the widget, or finds it, and calls one of its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

# Not only for type checkers: napari reads the annotation to know that it has to hand over the viewer.
from napari.viewer import Viewer  # noqa: TC002

if TYPE_CHECKING:
    from napari_boxprompt.gui.widget import BoxPromptWidget

__all__ = [
    "PLUGIN",
    "WIDGET",
    "accept_plane",
    "add_class",
    "ask_to_stop",
    "box_from_object",
    "boxes_from_all_labels",
    "boxes_from_file",
    "boxes_from_labels",
    "boxes_from_shapes",
    "bring_boxes_back",
    "close_project",
    "compare_views",
    "contrast_auto",
    "contrast_like_layer",
    "copy_command",
    "draw_complete_region",
    "edit_plane",
    "export_boxes",
    "export_labels",
    "export_project",
    "fix_boxes",
    "import_into_project",
    "load_model",
    "new_boxes_layer",
    "new_project",
    "new_project_of_folder",
    "next_class",
    "next_plane",
    "open_project",
    "open_project_zip",
    "open_recent_project",
    "open_sample",
    "open_widget",
    "predict_all",
    "predict_folder",
    "predict_others",
    "predict_plane",
    "predict_some",
    "predict_unopened",
    "previous_plane",
    "recolor_class",
    "redo",
    "reject_plane",
    "remove_class",
    "rename_class",
    "save_model",
    "show_keys",
    "start_training",
    "stop",
    "take_round_back",
    "toggle_complete",
    "toggle_preview",
    "undo",
    "use_preview",
    "zip_project",
]

PLUGIN = "napari-boxprompt"
WIDGET = "Box prompt"


def open_widget(viewer: Viewer) -> BoxPromptWidget:
    """Widget of a viewer, opened if it is not there, shown if it is hidden; the focus stays where it is."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    dock.show()
    dock.raise_()
    return cast("BoxPromptWidget", widget)


def open_sample(viewer: Viewer) -> None:
    """Open the nuclei, or the synthetic cells."""
    open_widget(viewer).actions.open_sample()


def new_boxes_layer(viewer: Viewer) -> None:
    """Add an empty layer for boxes over the chosen image."""
    open_widget(viewer).actions.new_boxes_layer()


def toggle_complete(viewer: Viewer) -> None:
    """Mark the plane on screen complete, or no longer complete."""
    open_widget(viewer).actions.toggle_complete()


def undo(viewer: Viewer) -> None:
    """Take back the last change of the boxes."""
    open_widget(viewer).actions.undo()


def redo(viewer: Viewer) -> None:
    """Make the change again that was taken back."""
    open_widget(viewer).actions.redo()


def boxes_from_file(viewer: Viewer) -> None:
    """Ask for a COCO or YOLO file and add its boxes."""
    open_widget(viewer).actions.boxes_from_file()


def boxes_from_labels(viewer: Viewer) -> None:
    """Add a box round every object of a Labels layer on the plane on screen."""
    open_widget(viewer).actions.boxes_from_labels()


def boxes_from_all_labels(viewer: Viewer) -> None:
    """Add a box round every object of a Labels layer, on all planes."""
    open_widget(viewer).actions.boxes_from_all_labels()


def boxes_from_shapes(viewer: Viewer) -> None:
    """Add the rectangles of a Shapes layer as boxes."""
    open_widget(viewer).actions.boxes_from_shapes()


def box_from_object(viewer: Viewer) -> None:
    """Add a box round the object under the cursor."""
    open_widget(viewer).actions.box_from_object()


def contrast_auto(viewer: Viewer) -> None:
    """Have the contrast measured that the model sees."""
    open_widget(viewer).actions.contrast_auto()


def contrast_like_layer(viewer: Viewer) -> None:
    """Take the contrast that the image layer is shown with."""
    open_widget(viewer).actions.contrast_like_layer()


def draw_complete_region(viewer: Viewer) -> None:
    """Draw rectangles inside which every object has its box."""
    open_widget(viewer).actions.draw_complete_region()


def toggle_preview(viewer: Viewer) -> None:
    """Show what the model makes of the boxes, or do not."""
    open_widget(viewer).actions.toggle_preview()


def next_class(viewer: Viewer) -> None:
    """Choose the next class for the next box."""
    open_widget(viewer).actions.next_class()


def add_class(viewer: Viewer) -> None:
    """Ask for the name of a new class."""
    open_widget(viewer).actions.add_class()


def rename_class(viewer: Viewer) -> None:
    """Ask for another name of the class of the next box."""
    open_widget(viewer).actions.rename_class()


def recolor_class(viewer: Viewer) -> None:
    """Ask for another colour of the class of the next box."""
    open_widget(viewer).actions.recolor_class()


def remove_class(viewer: Viewer) -> None:
    """Remove the class of the next box, with its boxes."""
    open_widget(viewer).actions.remove_class()


def bring_boxes_back(viewer: Viewer) -> None:
    """Bring back boxes that were deleted with their layer."""
    open_widget(viewer).actions.bring_boxes_back()


def fix_boxes(viewer: Viewer) -> None:
    """Mend every box whose problem can be mended."""
    open_widget(viewer).actions.fix_boxes()


def export_boxes(viewer: Viewer) -> None:
    """Ask for a file and write the boxes to it."""
    open_widget(viewer).actions.export_boxes()


def start_training(viewer: Viewer) -> None:
    """Train on the boxes."""
    open_widget(viewer).actions.start_training()


def stop(viewer: Viewer) -> None:
    """Stop the running work and keep what it has."""
    open_widget(viewer).actions.stop()


def predict_plane(viewer: Viewer) -> None:
    """Segment the plane on screen."""
    open_widget(viewer).actions.predict_plane()


def predict_all(viewer: Viewer) -> None:
    """Segment all planes of the chosen image."""
    open_widget(viewer).actions.predict_all()


def use_preview(viewer: Viewer) -> None:
    """Take an object for each box of the plane on screen as the result, without a training."""
    open_widget(viewer).actions.use_preview()


def predict_some(viewer: Viewer) -> None:
    """Ask which planes to segment."""
    open_widget(viewer).actions.predict_some()


def predict_others(viewer: Viewer) -> None:
    """Segment all other open images."""
    open_widget(viewer).actions.predict_others()


def predict_unopened(viewer: Viewer) -> None:
    """Segment the images of the project that are not open."""
    open_widget(viewer).actions.predict_unopened()


def compare_views(viewer: Viewer) -> None:
    """Compare two views of each plane, or do not any more."""
    open_widget(viewer).actions.compare_views()


def predict_folder(viewer: Viewer) -> None:
    """Ask for a folder and segment the images in it."""
    open_widget(viewer).actions.predict_folder()


def take_round_back(viewer: Viewer) -> None:
    """Make the model before the last one predict again."""
    open_widget(viewer).actions.take_round_back()


def save_model(viewer: Viewer) -> None:
    """Ask for a file and write the trained model to it."""
    open_widget(viewer).actions.save_model()


def load_model(viewer: Viewer) -> None:
    """Ask for a file and read a trained model from it."""
    open_widget(viewer).actions.load_model()


def export_labels(viewer: Viewer) -> None:
    """Ask for a file and write the label image to it."""
    open_widget(viewer).actions.export_labels()


def copy_command(viewer: Viewer) -> None:
    """Copy the command line that repeats the training."""
    open_widget(viewer).actions.copy_command()


def next_plane(viewer: Viewer) -> None:
    """Go to the plane that most needs a look."""
    open_widget(viewer).actions.next_plane()


def previous_plane(viewer: Viewer) -> None:
    """Go back to the plane looked at before."""
    open_widget(viewer).actions.previous_plane()


def accept_plane(viewer: Viewer) -> None:
    """Accept the prediction on the plane on screen."""
    open_widget(viewer).actions.accept_plane()


def reject_plane(viewer: Viewer) -> None:
    """Reject the prediction on the plane on screen."""
    open_widget(viewer).actions.reject_plane()


def edit_plane(viewer: Viewer) -> None:
    """Paint on the prediction of the plane on screen."""
    open_widget(viewer).actions.edit_plane()


def ask_to_stop(viewer: Viewer) -> None:
    """Ask in the dock whether to stop the training or prediction that runs."""
    open_widget(viewer).actions.ask_to_stop()


def show_keys(viewer: Viewer) -> None:
    """Show the table of keys."""
    open_widget(viewer).actions.show_keys()


def new_project(viewer: Viewer) -> None:
    """Ask for a folder and keep the open images and all work on them in it."""
    open_widget(viewer).actions.new_project()


def new_project_of_folder(viewer: Viewer) -> None:
    """Ask for a folder of images and make a project about all of them."""
    open_widget(viewer).actions.new_project_of_folder()


def open_project(viewer: Viewer) -> None:
    """Ask for a folder and open the project in it."""
    open_widget(viewer).actions.open_project()


def open_recent_project(viewer: Viewer) -> None:
    """Open the project that was open last."""
    open_widget(viewer).actions.open_recent_project()


def import_into_project(viewer: Viewer) -> None:
    """Ask for a file of boxes or masks for the project."""
    open_widget(viewer).actions.import_into_project()


def open_project_zip(viewer: Viewer) -> None:
    """Ask for a zip of a project and open it."""
    open_widget(viewer).actions.open_project_zip()


def close_project(viewer: Viewer) -> None:
    """Save the project and take its layers away."""
    open_widget(viewer).actions.close_project()


def export_project(viewer: Viewer) -> None:
    """Ask for a form and a place, and write boxes, masks or tables of the project."""
    open_widget(viewer).actions.export_project()


def zip_project(viewer: Viewer) -> None:
    """Ask for a file and pack the project with its images into it."""
    open_widget(viewer).actions.zip_project()
