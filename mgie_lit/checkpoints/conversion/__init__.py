"""``mgie convert``: from published formats to ours and back, streamed file by file."""
