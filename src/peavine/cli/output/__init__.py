"""The forms in which objects are shown: tables, JSON, YAML, names, templates, columns."""
