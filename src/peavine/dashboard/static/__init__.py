"""The built page, so that a wheel takes it along. Made from the repository's frontend folder; do not edit here."""
