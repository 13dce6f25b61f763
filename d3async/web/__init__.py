"""The web page: the same operations as the command line, in a browser on the same machine."""
