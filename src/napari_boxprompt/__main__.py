"""``python -m napari_boxprompt`` is the command ``boxprompt``."""

from napari_boxprompt.cli import main

if __name__ == "__main__":
    main()
