"""Pure tensor functions: no modules, no files, no state; randomness comes in as an argument."""
