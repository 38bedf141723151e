"""The frozen models behind one protocol, their weights, and a cache of what they compute."""

from napari_boxprompt.models.base import FrozenModel, ModelInfo
from napari_boxprompt.models.cache import EmbeddingCache, embedding_key
from napari_boxprompt.models.home import embeddings_folder, home_folder, models_folder
from napari_boxprompt.models.registry import (
    download_model,
    import_model,
    list_models,
    load_frozen,
    model_path,
    verify_model,
)

__all__ = [
    "EmbeddingCache",
    "FrozenModel",
    "ModelInfo",
    "download_model",
    "embedding_key",
    "embeddings_folder",
    "home_folder",
    "import_model",
    "list_models",
    "load_frozen",
    "model_path",
    "models_folder",
    "verify_model",
]
