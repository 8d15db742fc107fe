"""One module a controller, named after its resource; one loop for all of them."""
