"""The command ``mgie``: one thin file a sub-command, each imported only when it runs."""
