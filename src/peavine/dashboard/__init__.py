"""The web page: see, edit, log, exec, scale, roll back, graphs."""
