"""How published formats call the tensors that we know by our names: pure maps, one module a format."""
