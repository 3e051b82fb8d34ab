"""The only writer of catalogue rows, for the command and for the staff admin alike.

    address.py  which provider addresses are acceptable (pure)
    file.py     a catalogue file as checked values, or every fault in it (no database)
    rows.py     what staff change one by one: prices, provider keys, switches; the stamp that tells serving processes
    chains.py   fallback chains and their rules
    dump.py     the rows as such a file
    load.py     makes the rows equal to a file, and reports what it did

Every function that changes the catalogue moves `CatalogStamp.version` in the same transaction.
"""
