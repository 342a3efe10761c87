"""One self-contained HTML page about training runs and evaluations."""
