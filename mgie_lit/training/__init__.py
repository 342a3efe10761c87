"""Training: the LightningModule, optimizer recipes, loggers and callbacks."""
