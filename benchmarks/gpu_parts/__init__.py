"""What ``gpu.py`` measures with and writes."""
