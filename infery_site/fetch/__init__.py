"""The only socket to addresses that a user or a member of staff gave.

    urls.py        one strict parser of URLs: the host that is judged is the host that is dialled
    dialling.py    names to addresses, every one of them judged; connects to those and to nothing else
    exchange.py    one request over one connection, with limits on everything that its peer decides
    fetcher.py     Fetcher: images by GET; hops, limits, and what may come back
    poster.py      Poster: webhooks by POST, of which the status of the answer is all that counts

Invariants: a name is resolved once per hop, and one address of its answer that is not public refuses the whole answer;
each redirect is a new URL, judged anew; nothing of ours goes along (no cookie, no key, no referrer), nothing is asked
twice, and no answer is decompressed. Whoever asks learns one text for every refused address and one for every failure of
a network or a server.
"""

from __future__ import annotations

from infery_site.fetch.errors import FetchesBusy, ImageFetchFailed, ImageTooLarge, InvalidImageUrl
from infery_site.fetch.fetcher import FetchedImage, Fetcher, Limits
from infery_site.fetch.poster import AddressRefused, NoAnswer, Poster

__all__ = [
    "AddressRefused",
    "FetchedImage",
    "Fetcher",
    "FetchesBusy",
    "ImageFetchFailed",
    "ImageTooLarge",
    "InvalidImageUrl",
    "Limits",
    "NoAnswer",
    "Poster",
]
