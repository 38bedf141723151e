"""Colours of objects in a label layer: the colour of the class, a little different from object to object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap, label_colormap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

__all__ = ["class_colormap"]

# Brightness of object 1, 2, ...; neighbours in number are often neighbours in place, so they lie far apart.
# Few values, because napari is slow with thousands of different colours.
_LIGHT = (0.0, -0.3, 0.3, -0.15, 0.15, -0.4, 0.4)
_UNKNOWN = (0.75, 0.75, 0.75, 1.0)
_CLEAR = np.zeros(4)
_SURE = 2**16  # up to here napari gives each object a colour of its own, whatever is installed


def class_colormap(
    objects: Mapping[int, str], colors: Mapping[str, Sequence[float]]
) -> DirectLabelColormap | CyclicLabelColormap:
    """Make the colours of a label layer.

    Parameters
    ----------
    objects : mapping of int to str
        The class of every object.
    colors : mapping of str to RGBA
        The colour of every class, from 0 to 1.

    Returns
    -------
    napari.utils.colormaps.DirectLabelColormap or CyclicLabelColormap
        0 is clear. Objects that are painted later have the colour of the class if there is only one, and
        are grey otherwise. Cyclic where napari cannot give each number its own colour: objects of several
        classes then have napari's colours, which say nothing of the class.
    """
    shades = {name: [_shade(color, light) for light in _LIGHT] for name, color in colors.items()}
    grey = [_shade(_UNKNOWN, light) for light in _LIGHT]
    later = next(iter(shades.values())) if len(shades) == 1 else grey
    if not _takes(max(objects, default=0)):
        used = set(objects.values())
        if len(used) > 1:
            return label_colormap()
        cycle = shades.get(next(iter(used)), grey)
        return CyclicLabelColormap(colors=np.array([_CLEAR, *cycle[1:], cycle[0]]))
    found = DirectLabelColormap(color_dict={0: _CLEAR, None: later[0]})
    # Not in its making: there napari looks at every colour, which takes long with thousands of objects.
    found.color_dict.update(
        {n: shades.get(name, grey)[n % len(_LIGHT)] for n, name in objects.items() if n != 0}
    )
    return found


def _takes(number: int) -> bool:
    """Whether napari can give an object of this number a colour of its own; without numba not all."""
    if number < _SURE:
        return True
    tried = DirectLabelColormap(color_dict={0: _CLEAR, None: _CLEAR, number: np.ones(4)})
    try:
        tried.map(np.array([number], np.uint32))
    except RuntimeError:
        return False
    return True


def _shade(color: Sequence[float], light: float) -> npt.NDArray[np.float32]:
    """Return a colour moved towards white, or towards black if `light` is negative."""
    rgba = np.array([*color, 1.0][:4], dtype=np.float32)
    rgba[:3] = rgba[:3] + (1 - rgba[:3]) * light if light > 0 else rgba[:3] * (1 + light)
    return rgba
