"""What the user chose for the plugin in napari's preferences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari.settings import get_plugin_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_boxprompt.models import EmbeddingCache

__all__ = ["PluginSettings", "follow_settings", "make_cache", "plugin_settings"]

PLUGIN = "napari-boxprompt"
_GIB = 1 << 30


@dataclass(frozen=True)
class PluginSettings:
    """Preferences of the plugin; the defaults are those of the manifest.

    Parameters
    ----------
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    model : str
        Frozen model that a new training starts from: a name, or the path of a weights file.
    cache_folder : pathlib.Path, optional
        Where encoded images are kept, None for the usual folder.
    cache_gb : float
        Largest size of that folder in units of 2**30 bytes; 0 keeps encoded images in memory only.
    """

    device: str = "auto"
    model: str = "litemedsam"
    cache_folder: Path | None = None
    cache_gb: float = 8.0


def plugin_settings() -> PluginSettings:
    """Preferences as they are now; the defaults where napari does not know the plugin.

    It does not where the plugin is switched off, or where a script uses these modules without it.
    """
    try:
        chosen = get_plugin_settings(PLUGIN)
    except KeyError:
        return PluginSettings()
    folder = chosen.storage.folder.strip()
    return PluginSettings(
        device=chosen.computing.device,
        model=chosen.computing.model.strip() or PluginSettings.model,
        cache_folder=Path(folder).expanduser() if folder else None,
        cache_gb=chosen.storage.size,
    )


def follow_settings(tell: Callable[[PluginSettings], None]) -> Callable[[], None]:
    """Tell of preferences whenever the user changes them; return what ends that.

    Parameters
    ----------
    tell : callable
        Called with the preferences as they are then.
    """
    try:
        changed = get_plugin_settings(PLUGIN).events.changed
    except KeyError:
        return lambda: None

    def on_changed(_: object = None) -> None:
        tell(plugin_settings())

    changed.connect(on_changed)
    return lambda: changed.disconnect(on_changed)


def make_cache(settings: PluginSettings) -> EmbeddingCache:
    """Cache of encoded images as the preferences want it.

    A folder that cannot be written does no harm: the cache then says so once in the log and keeps encoded
    images in memory.
    """
    from napari_boxprompt.models import EmbeddingCache, embeddings_folder  # torch takes seconds to load

    if settings.cache_gb <= 0:
        return EmbeddingCache(None)
    folder = settings.cache_folder or embeddings_folder()
    return EmbeddingCache(folder, max_disk_bytes=int(settings.cache_gb * _GIB))
