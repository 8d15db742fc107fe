"""`peavine top`: the cluster on one screen. `model` knows what to show, `app` draws it (with textual, an extra)."""
