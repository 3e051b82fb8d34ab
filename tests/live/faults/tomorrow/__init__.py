"""An app whose only migration is one as the next version may bring it: `settings` of this package adds it."""
