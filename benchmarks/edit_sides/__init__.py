"""What ``edit.py`` measures."""
