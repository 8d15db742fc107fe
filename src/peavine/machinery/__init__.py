"""Pure rules that hold for any API object: errors, meta, quantities, selectors, schema, patches, apply, codecs, tables.
A module that names a kind (Pod, Service, ...) belongs in `peavine.api`; one that does I/O belongs above.
"""
