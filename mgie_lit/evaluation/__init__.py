"""Evaluation: run a system over a data set, one row a sample and seed; every number comes from that table."""
