"""What several benchmarks share: how they measure, and where their numbers come from and go."""
