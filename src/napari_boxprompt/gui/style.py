"""Colours of the widget in napari's light and dark themes."""

from __future__ import annotations

from napari.utils.theme import get_theme

__all__ = ["plot_colors", "style_sheet"]

ACCENT = "#0b72d0"


def style_sheet(theme: str) -> str:
    """Qt style sheet of the dock widget.

    Parameters
    ----------
    theme : str
        Name of a napari theme.
    """
    colors = get_theme(theme)
    quiet = colors.icon.as_hex()
    return f"""
QPushButton[primary="true"] {{ background-color: {ACCENT}; color: white; font-weight: bold; }}
QPushButton[primary="true"]:hover {{ background-color: #2a8be0; }}
QPushButton[primary="true"]:disabled {{ background-color: {colors.foreground.as_hex()}; }}
QPushButton {{ padding-left: 5px; padding-right: 5px; }}
#boxprompt-heading {{ font-weight: bold; border: none; background: transparent; padding: 3px; }}
#boxprompt-menu {{ padding-right: 20px; }}
#boxprompt-menu::menu-indicator {{
    subcontrol-origin: padding; subcontrol-position: center right; right: 5px;
}}
QToolButton {{ padding: 2px 4px; border: 1px solid transparent; border-radius: 3px; }}
QToolButton:checked:!hover {{ border-color: {quiet}; background: {colors.foreground.as_hex()}; }}
#boxprompt-end {{ border-color: {quiet}; }}
#boxprompt-heading:checked {{ border: none; background: transparent; }}
#boxprompt-summary, #boxprompt-quiet {{ color: {quiet}; }}
#boxprompt-summary {{ padding: 0; }}
#boxprompt-small {{ color: {quiet}; font-size: 8pt; }}
QListWidget {{ background: transparent; border: none; }}
QListWidget::item, QTreeWidget::item {{ padding: 2px 0; }}
QListWidget::item:selected, QTreeWidget::item:selected {{
    background: {colors.current.as_hex()}; color: {colors.text.as_hex()};
}}
#boxprompt-hint {{ border-left: 3px solid #3ddc84; padding-left: 6px; }}
#boxprompt-warning {{ border-left: 3px solid #ff8c1a; padding-left: 6px; }}
"""


def plot_colors(theme: str) -> tuple[str, str]:
    """Background and text of the plots."""
    colors = get_theme(theme)
    return colors.background.as_hex(), colors.text.as_hex()
