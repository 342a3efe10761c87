"""Writing a data set as tar shards in WebDataset's layout, with an index of the places of all members."""
