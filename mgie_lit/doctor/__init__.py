"""What a training would need, before it runs: environment, parameters, memory, time, files."""
