"""The dock widget: everything that knows napari and Qt."""
