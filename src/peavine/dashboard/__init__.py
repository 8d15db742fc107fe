"""The web page of one cluster: a static page, sessions, and a door to the API server with the user's own rights.

What belongs here serves the browser. It has no rights of its own and knows no kind: what a resource is, the page asks
the API server. The page's source is in the repository's `frontend` folder; `static` holds it built.
"""
