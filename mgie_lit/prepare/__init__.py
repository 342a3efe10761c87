"""Looking at data sets and making the files that training reads."""
