"""The frozen values that cross the stages of the pipeline (pure).

request.py   what the client asked            content.py   what the request carries as bytes
route.py     who could serve it, at what price  quote.py   the bound on its cost
reply.py     what a provider answered          delivery.py  how it ended; the protocols between rooms
"""
