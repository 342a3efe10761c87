"""How the page looks: one accent, the system's own fonts, light or dark as the browser wishes."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS_PATH, SCRIPT_PATH = Path(__file__).with_name("page.css"), Path(__file__).with_name("page.js")
_SANS = ("ui-sans-serif", "system-ui", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")


def page_theme() -> gr.themes.Base:
    """A theme that loads nothing from elsewhere; text has a contrast of 4.5 and more."""
    theme = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=_SANS, font_mono=_MONO)
    return theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        color_accent="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        error_text_color="#b91c1c",
        error_text_color_dark="#fca5a5",
    )
