"""Data sets of edit pairs: readers, image files, transforms, order and the DataModule."""
