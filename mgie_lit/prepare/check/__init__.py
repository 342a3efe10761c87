"""What is wrong with a data set: every example opened once, and compared with all others."""
