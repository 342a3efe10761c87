"""The web demo: pictures and words in, edited pictures out. Only ``page``, ``actions`` and ``server`` know Gradio."""
