"""One module a command: its flags (`FLAGS`), its work (`async run(session, flags)`), its help (the docstring)."""
