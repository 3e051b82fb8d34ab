"""The staff admin of the catalogue. Every rule and every write is `chat.loading`'s; each save moves the catalogue's stamp.

parts.py      what the pages share
providers.py  providers and their keys, which can be entered and not read
models.py     models, capability flags, targets
prices.py     price versions: history, new ones, withdrawal
chains.py     fallback chains; the default PDF fee
"""

from chat.admin import chains, models, prices, providers

__all__ = ["chains", "models", "prices", "providers"]
