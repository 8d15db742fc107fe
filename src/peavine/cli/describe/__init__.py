"""What `describe` says of an object, kind by kind."""
